"""What a person sees while a stage runs: log lines and progress, all of it on stderr.

Stdout carries one thing, the artifact's path, so that `path=$(raydistill curate …)` works. Progress is a bar where
someone watches (stderr is a terminal) and otherwise one plain line at most every ten seconds, which is what a job's
log can hold. Core returns records; only pipeline and command line call this.
"""

from __future__ import annotations

import logging
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_FIGURES = 0.25  # a bar is redrawn by its own thread; formatting a GPU scalar more often would stall it
CHATTY = ("ray", "mlflow", "alembic", "matplotlib", "PIL", "fontTools", "urllib3", "filelock", "git", "fsspec")

_console = Console(stderr=True)  # looks up sys.stderr at every write; shared, so lines appear above a live bar


def get_logger(name: str) -> logging.Logger:
    """The logger of one module: `get_logger(__name__)`. Names outside the package are put below it."""
    inside = name == "raydistill" or name.startswith("raydistill.")
    return logging.getLogger(name if inside else f"raydistill.{name}")


_log = get_logger(__name__)


def setup(verbosity: int = 0) -> None:
    """Send all logging to stderr; call it once per process (again replaces, never doubles).

    Parameters
    ----------
    verbosity
        -1: warnings only, and no progress; 0: what happens; 1: debug lines of this package; 2: and of Ray, MLflow
        and the other libraries, which are held to warnings otherwise.
    """
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _StderrHandler)]:
        root.removeHandler(handler)
    root.addHandler(_StderrHandler())
    level = logging.WARNING if verbosity < 0 else logging.INFO if verbosity == 0 else logging.DEBUG
    logging.getLogger("raydistill").setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.DEBUG if verbosity > 1 else logging.WARNING)


class _StderrHandler(logging.Handler):
    """Writes through the shared console: no markup, no wrapping, so a path can be copied from the line."""

    def __init__(self) -> None:
        super().__init__()
        if _on_terminal():
            self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        else:
            self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            style = "yellow" if record.levelno >= logging.WARNING else None
            _console.print(self.format(record), style=style, markup=False, highlight=False, soft_wrap=True, emoji=False)
        except Exception:
            self.handleError(record)


@contextmanager
def progress(total: int | None, description: str, unit: str = "steps", *, start: int = 0) -> Iterator[Progress]:
    """Show how far a loop has come.

    Parameters
    ----------
    total
        How many there will be; None when unknown (then no time left is shown).
    description, unit
        "distilling", "steps": read together as "distilling: 40/1000 steps".
    start
        What an earlier run had done already; it does not count in the rate.

    Examples
    --------
    >>> with progress(3, "adding", "numbers") as shown:
    ...     for number in (1, 2, 3):
    ...         shown.advance(latest=number)
    """
    watched = _on_terminal() and _log.isEnabledFor(logging.INFO)
    shown: Progress = (_Bar if watched else _Lines)(total, description, unit, start)
    try:
        yield shown
    except BaseException:
        shown.close("stopped")
        raise
    shown.close("done")


@dataclass(eq=False)
class Progress:
    """What `progress` hands out. Figures are numbers or words; the latest of each name is shown."""

    total: int | None
    description: str
    unit: str
    start: int = 0
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.done = self.start
        self.figures: dict[str, object] = {}
        self._began = self.clock()

    def advance(self, n: int = 1, **figures: object) -> None:
        """`n` more are done."""
        self.update(self.done + n, **figures)

    def update(self, done: int, **figures: object) -> None:
        """`done` are done in all; None of the figures is formatted until it is shown."""
        self.done = done
        self.figures.update(figures)
        self._show()

    def resume_at(self, done: int) -> None:
        """An earlier run had come so far, as turns out now; that does not count in the rate."""
        self.start = self.done = done

    def close(self, how: str) -> None:
        """The last word; `how` is "done" or "stopped"."""

    def _show(self) -> None:
        """Called after every change."""


class _Lines(Progress):
    """Progress as log lines, for output that nobody watches."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._lines = [(0.0, self.start)]  # seconds since the beginning, and how many were done: of each line so far

    def resume_at(self, done: int) -> None:
        super().resume_at(done)
        self._lines = [(self.clock() - self._began, done)]

    def _show(self) -> None:
        elapsed = self.clock() - self._began
        if elapsed - self._lines[-1][0] >= SECONDS_BETWEEN_LINES:
            _log.info("%s", self._line(self._latest_rate(elapsed)))
            self._lines.append((elapsed, self.done))

    def close(self, how: str) -> None:
        elapsed = self.clock() - self._began
        working = elapsed - self._lines[0][0]
        rate = (self.done - self.start) / working if working > 0 else 0.0
        _log.info("%s, %s after %s", self._line(rate, closing=True), how, duration(elapsed))

    def _latest_rate(self, elapsed: float) -> float:
        """Of the second half of the time so far: what is slow at the beginning, as compiling is, soon does not count."""
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
        return ", ".join([*parts, *_formatted(self.figures)])


class _Bar(Progress):
    """Progress as a bar with time left and the latest figures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[figures]}", markup=False),
            console=_console,
            redirect_stdout=False,  # stdout belongs to the artifact's path
            speed_estimate_period=600,  # an expert may take minutes; rich's 30 s would show no time left
        )
        self._task: TaskID = self._rich.add_task(
            self.description, total=self.total, completed=self.start, unit=self.unit, figures=""
        )
        self._last_figures = -SECONDS_BETWEEN_FIGURES
        self._rich.start()

    def resume_at(self, done: int) -> None:
        super().resume_at(done)
        self._rich.reset(self._task, completed=done)

    def _show(self) -> None:
        now = self.clock()
        if now - self._last_figures < SECONDS_BETWEEN_FIGURES:
            self._rich.update(self._task, completed=self.done)
            return
        self._last_figures = now
        self._rich.update(self._task, completed=self.done, figures=" ".join(_formatted(self.figures)))

    def close(self, how: str) -> None:
        self._rich.update(self._task, completed=self.done, figures=" ".join(_formatted(self.figures)))
        self._rich.stop()


def duration(seconds: float) -> str:
    """Two units at most: "7 s", "4 min 12 s", "2 h 5 min", "3 d 4 h"; tenths below ten seconds.

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


def _formatted(figures: dict[str, object]) -> list[str]:
    return [f"{name}={_short(value)}" for name, value in figures.items()]


def _short(value: object) -> str:
    """Counts as they are; anything that turns into a float (NumPy and torch scalars too) with four digits."""
    if isinstance(value, str | int) or value is None:
        return str(value)
    return f"{float(value):.4g}" if hasattr(value, "__float__") else str(value)


def _on_terminal() -> bool:
    return sys.stderr.isatty()
