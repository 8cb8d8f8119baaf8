"""Write log lines and progress to stderr.

Stdout has only the artifact's path, so that `path=$(raydistill curate …)` works. Progress is a bar
on a terminal and in a notebook. In a job's log it is one plain line, at most every ten seconds.
Core returns records; only the pipeline and the command line log.
"""

from __future__ import annotations

import html
import logging
import sys
import textwrap
import time
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from raydistill.escaping import for_terminal

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_METRICS = 0.25  # formatting a GPU scalar waits for the GPU
MAX_METRICS = 2  # the first ones that a loop reports
CLOCK = len("12:00:00 ")  # before each line on a terminal
CHATTY = ("ray", "mlflow", "alembic", "matplotlib", "PIL", "fontTools", "urllib3", "filelock", "git", "fsspec")

IN_NOTEBOOK = Console().is_jupyter
# Shared, so that lines appear above a live bar. A notebook shows stderr in red, so its lines go to stdout.
_console = Console(stderr=not IN_NOTEBOOK, force_jupyter=False, force_terminal=IN_NOTEBOOK or None)


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module, as a child of `raydistill`.

    Use it as `get_logger(__name__)`.
    """
    inside = name == "raydistill" or name.startswith("raydistill.")
    return logging.getLogger(name if inside else f"raydistill.{name}")


_log = get_logger(__name__)


def setup(verbosity: int = 0) -> None:
    """Send all logging of this process to stderr; a second call replaces the first.

    Parameters
    ----------
    verbosity
        -1: warnings, no progress; 0: info; 1: debug lines of this package; 2: debug lines of all
        libraries. Below 2, Ray, MLflow and the other libraries log warnings only.
    """
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _StderrHandler)]:
        root.removeHandler(handler)
    root.addHandler(_StderrHandler())
    level = logging.WARNING if verbosity < 0 else logging.INFO if verbosity == 0 else logging.DEBUG
    logging.getLogger("raydistill").setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.DEBUG if verbosity > 1 else logging.WARNING)
    if IN_NOTEBOOK:  # Ray and tqdm ask for ipywidgets, which nothing here needs
        logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", "IProgress not found")


class _StderrHandler(logging.Handler):
    """Handler that prints to the shared console without markup.

    On a terminal, lines wrap between words, and never inside a path, so that paths can be copied.
    """

    def __init__(self) -> None:
        super().__init__()
        if IN_NOTEBOOK or _on_terminal():
            self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        else:
            self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            style = "yellow" if record.levelno >= logging.WARNING else None
            line = for_terminal(self.format(record)).replace("\n", f"\n{' ' * CLOCK}")
            text = _wrapped(line) if _on_terminal() else line
            _console.print(text, style=style, markup=False, highlight=False, soft_wrap=True, emoji=False)
        except Exception:
            self.handleError(record)


def _wrapped(text: str) -> str:
    """Wrap lines longer than the terminal between words, and indent the rest."""
    width, indent = max(_console.width, 40), " " * CLOCK
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        if len(line) > width
        else line
        for line in text.splitlines()
    )


@contextmanager
def progress(total: int | None, description: str, unit: str = "steps", *, start: int = 0) -> Iterator[Progress]:
    """Show the progress of a loop.

    Parameters
    ----------
    total
        Number of steps; None if unknown, and then no time left is shown.
    description, unit
        "distilling" and "steps" give "distilling: 40/1000 steps".
    start
        Steps that an earlier run completed. They do not count in the rate.

    Yields
    ------
    Progress
        Call its `advance` or `update` after every step.

    Examples
    --------
    >>> with progress(3, "adding", "numbers") as bar:
    ...     for number in (1, 2, 3):
    ...         bar.advance(latest=number)
    """
    use_bar = _log.isEnabledFor(logging.INFO) and (IN_NOTEBOOK or _on_terminal())
    kind = (_NotebookBar if IN_NOTEBOOK else _Bar) if use_bar else _Lines
    bar = kind(total, description, unit, start)
    try:
        yield bar
    except BaseException:
        bar.close("stopped")
        raise
    bar.close("done")


@dataclass(eq=False)
class Progress:
    """Count of completed steps, with the latest value of each metric."""

    total: int | None
    description: str
    unit: str
    start: int = 0
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.done = self.start
        self.metrics: dict[str, object] = {}
        self._started = self.clock()

    def advance(self, n: int = 1, **metrics: object) -> None:
        """Count `n` more steps."""
        self.update(self.done + n, **metrics)

    def update(self, done: int, **metrics: object) -> None:
        """Set the number of completed steps; the first two metrics are shown."""
        self.done = done
        self.metrics.update(metrics)
        self._show()

    def resume_at(self, done: int) -> None:
        """Set the steps that an earlier run completed, if known only after the start."""
        self.start = self.done = done

    def set_total(self, total: int) -> None:
        """Set the number of steps, if known only after the start."""
        self.total = total

    def close(self, outcome: str) -> None:
        """Show the last line; `outcome` is "done" or "stopped"."""

    def _show(self) -> None:
        """Show the current state; called after every change."""


class _Lines(Progress):
    """Progress as log lines."""

    seconds_between = SECONDS_BETWEEN_LINES

    def __post_init__(self) -> None:
        super().__post_init__()
        self._lines = [(0.0, self.start)]  # (seconds since the start, steps done) of each line

    def resume_at(self, done: int) -> None:
        super().resume_at(done)
        self._lines = [(self.clock() - self._started, done)]

    def _show(self) -> None:
        elapsed = self.clock() - self._started
        if elapsed - self._lines[-1][0] >= self.seconds_between:
            self._print(self._line(self._latest_rate(elapsed)))
            self._lines.append((elapsed, self.done))

    def close(self, outcome: str) -> None:
        elapsed = self.clock() - self._started
        working = elapsed - self._lines[0][0]
        rate = (self.done - self.start) / working if working > 0 else 0.0
        self._print(f"{self._line(rate, closing=True)}, {outcome} after {duration(elapsed)}")

    def _print(self, line: str) -> None:
        _log.info("%s", line)

    def _latest_rate(self, elapsed: float) -> float:
        """Return the steps per second in the second half of the elapsed time.

        This leaves out a slow start.
        """
        since, done = self._lines[max(0, bisect_right(self._lines, elapsed / 2, key=itemgetter(0)) - 1)]
        if done == self.done:
            since, done = self._lines[0]
        return (self.done - done) / (elapsed - since)

    def _line(self, rate: float, closing: bool = False) -> str:
        count = f"{self.done}/{self.total}" if self.total is not None else f"{self.done}"
        parts = [f"{self.description}: {count} {self.unit}"]
        if rate > 0:
            parts.append(f"{rate:.3g}/s" if rate >= 0.1 else f"{duration(1 / rate)} each")
            if self.total is not None and not closing:
                parts.append(f"{duration(max(self.total - self.done, 0) / rate)} left")
        return ", ".join([*parts, *_formatted(self.metrics)])


class _NotebookBar(_Lines):
    """Progress as a bar below a notebook's cell; later loops of the cell reuse it."""

    seconds_between = 0.5
    running: ClassVar[list[_NotebookBar]] = []  # outer loops first
    displays: ClassVar[dict[int, Any]] = {}  # the bars' place in the output of the latest cell

    def __post_init__(self) -> None:
        super().__post_init__()
        self.running.append(self)
        self._print(self._line(0.0))

    def close(self, outcome: str) -> None:
        self.total = self.total or self.done  # a bar of unknown length would go on moving
        super().close(outcome)
        self.running.remove(self)

    def _print(self, line: str) -> None:
        from IPython import get_ipython
        from IPython.display import display

        share = f'value="{self.done}" max="{self.total}"' if self.total else ""
        self._html = f"<div><progress {share}></progress> {html.escape(line)}</div>"
        shown = {"text/plain": line, "text/html": "".join(bar._html for bar in self.running)}
        cell: int = get_ipython().execution_count
        if cell in self.displays:
            self.displays[cell].update(shown, raw=True)
        else:
            self.displays.clear()
            self.displays[cell] = display(shown, raw=True, display_id=True)


class _Time(ProgressColumn):
    """Time left; elapsed time before the first step and after the last one."""

    max_refresh = 0.5  # seconds; in between, every redraw would show another estimate

    def render(self, task: Task) -> Text:
        """Return the time of a task."""
        left = None if task.finished or task.fields["waits"] else task.time_remaining
        if left is not None:
            return Text(f"{duration(left)} left")
        return Text(duration(task.finished_time or task.elapsed or 0.0))


class _Bar(Progress):
    """Progress as a bar; steps and time come first, for narrow terminals."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[count]}", markup=False),
            _Time(),
            BarColumn(self._bar_width()),
            TextColumn("{task.fields[metrics]}", markup=False),
            console=_console,
            redirect_stdout=False,  # stdout has only the artifact's path
            speed_estimate_period=600,  # in seconds; an expert may take minutes, and with the default of 30 no time left is shown
        )
        self._task: TaskID = self._rich.add_task(
            self.description, total=self.total, completed=self.start, **self._waiting()
        )
        self._metrics_shown_at = -SECONDS_BETWEEN_METRICS
        self._rich.start()

    def resume_at(self, done: int) -> None:
        super().resume_at(done)
        self._rich.reset(self._task, completed=done, **self._waiting())  # it replaces all fields

    def _waiting(self) -> dict[str, Any]:
        """Return the fields of a bar before its first step."""
        return {"count": self._count(), "waits": True, "metrics": ""}

    def set_total(self, total: int) -> None:
        super().set_total(total)
        self._rich.update(self._task, total=total, count=self._count())

    def _bar_width(self) -> int:
        return 10 if _console.width < 100 else 20

    def _count(self) -> str:
        return f"{self.done} {self.unit}" if self.total is None else f"{self.done}/{self.total} {self.unit}"

    def _show(self) -> None:
        now = self.clock()
        shown: dict[str, Any] = {}
        if now - self._metrics_shown_at >= SECONDS_BETWEEN_METRICS:
            self._metrics_shown_at = now
            shown = {"metrics": self._fitting()}
        self._rich.update(
            self._task, completed=self.done, count=self._count(), waits=self.done == self.start, **shown
        )  # fmt: skip

    def _fitting(self) -> str:
        """Return the metrics for which the terminal has room."""
        before = len(f"{self.description} {self._count()} 59 min 59 s left ")
        room = _console.width - before - self._bar_width() - 1
        text = ""
        for metric in _formatted(self.metrics):
            if len(longer := f"{text} {metric}".strip()) <= room:
                text = longer
        return text

    def close(self, outcome: str) -> None:
        self._rich.update(self._task, completed=self.done, count=self._count(), metrics=self._fitting())
        self._rich.stop()


def duration(seconds: float) -> str:
    """Format a duration in at most two units, with tenths below ten seconds.

    >>> [duration(s) for s in (0.31, 59.6, 3599.9, 7500, 273600)]
    ['0.3 s', '1 min 0 s', '1 h 0 min', '2 h 5 min', '3 d 4 h']
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit, length, smaller, smaller_length in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= length:
            return f"{whole // length} {unit} {whole % length // smaller_length} {smaller}"
    return f"{whole // 60} min {whole % 60} s"


def _formatted(metrics: dict[str, object]) -> list[str]:
    return [f"{name}={_short(value)}" for name, value in list(metrics.items())[:MAX_METRICS]]


def _short(value: object) -> str:
    """Format an integer in full and a float with four digits.

    NumPy and torch scalars count as floats.
    """
    if isinstance(value, str | int) or value is None:
        return str(value)
    return f"{float(value):.4g}" if hasattr(value, "__float__") else str(value)


def _on_terminal() -> bool:
    return sys.stderr.isatty()
