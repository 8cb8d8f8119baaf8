"""Log lines and progress on stderr: a line in ten seconds, or a bar on a terminal."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill import log


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    names = ["", "raydistill", *log.CHATTY]
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, log._StderrHandler)]:
        root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class Clock:
    """Fake clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_logs_and_progress_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup()
    log.get_logger("raydistill.x").info("read [bold]42[/bold] :smile: galaxies from /a/%s", "b" * 200)
    with log.progress(2, "adding", "numbers") as bar:
        bar.advance(loss=0.5)
        bar.advance(loss=0.25)
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert f"read [bold]42[/bold] :smile: galaxies from /a/{'b' * 200}" in first, "markup or wrapping changed the line"
    assert "adding: 2/2 numbers" in second
    assert "loss=0.25" in second


def test_a_name_of_several_lines_writes_no_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup()
    log.get_logger("raydistill.x").warning("left out: %s", "a\n2026-01-01 INFO all is well\r\x1b[2K")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("left out: a")
    assert second == "         2026-01-01 INFO all is well\\r\\x1b[2K"


def test_second_setup_does_not_duplicate_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup()
    log.setup()
    log.get_logger("raydistill.x").info("once")
    assert capsys.readouterr().err.count("once") == 1


@pytest.mark.parametrize(("verbosity", "seen"), [(-1, "warning"), (0, "info warning"), (1, "debug info warning")])
def test_verbosity(verbosity: int, seen: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.setup(verbosity)
    logger = log.get_logger("somewhere")
    for level in ("debug", "info", "warning"):
        getattr(logger, level)("a-%s-line", level)
    assert re.findall(r"a-(\w+)-line", capsys.readouterr().err) == seen.split()


def test_libraries_log_warnings_only_below_verbosity_2(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup(1)
    logging.getLogger("PIL.PngImagePlugin").info("chatter")
    logging.getLogger("PIL.PngImagePlugin").warning("trouble")
    err = capsys.readouterr().err
    assert "trouble" in err
    assert "chatter" not in err
    log.setup(2)
    logging.getLogger("PIL.PngImagePlugin").info("chatter")
    assert "chatter" in capsys.readouterr().err


def test_one_line_every_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raydistill")
    clock = Clock()
    bar = log._Lines(100, "distilling", "steps", clock=clock)
    for _ in range(100):
        clock.now += 0.25
        bar.advance(loss=clock.now)
    assert lines_of(caplog) == [
        "distilling: 40/100 steps, 4/s, 15 s left, loss=10",
        "distilling: 80/100 steps, 4/s, 5.0 s left, loss=20",
    ]
    bar.close("done")
    assert lines_of(caplog)[-1] == "distilling: 100/100 steps, 4/s, loss=25, done after 25 s"


@given(st.lists(st.floats(min_value=0.01, max_value=40), max_size=60))
def test_lines_are_at_least_ten_seconds_apart(pauses: list[float]) -> None:
    clock, times = Clock(), []
    handler = logging.Handler()
    handler.emit = lambda record: times.append(clock.now)  # type: ignore[method-assign]
    logger = logging.getLogger("raydistill.log")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        bar = log._Lines(None, "searching", "trials", clock=clock)
        for pause in pauses:
            clock.now += pause
            bar.advance()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert all(later - earlier >= 10 for earlier, later in zip([0.0, *times], times, strict=False))


def test_rate_excludes_steps_of_an_earlier_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raydistill")
    clock = Clock()
    bar = log._Lines(1000, "distilling", "steps", start=900, clock=clock)
    clock.now = 20.0
    bar.update(950)
    assert lines_of(caplog) == ["distilling: 950/1000 steps, 2.5/s, 20 s left"]


def test_rate_excludes_steps_found_after_the_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raydistill")
    clock = Clock()
    bar = log._Lines(5000, "distilling", "steps", clock=clock)
    clock.now = 15.0  # starting
    bar.resume_at(4000)
    for done in range(4010, 4041, 10):
        clock.now += 10
        bar.update(done)
    assert lines_of(caplog)[0] == "distilling: 4010/5000 steps, 1/s, 16 min 30 s left"
    assert lines_of(caplog)[-1] == "distilling: 4040/5000 steps, 1/s, 16 min 0 s left"
    bar.close("stopped")
    assert lines_of(caplog)[-1] == "distilling: 4040/5000 steps, 1/s, stopped after 55 s"


def test_total_may_become_known_after_the_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raydistill")
    clock = Clock()
    bar = log._Lines(None, "fetching gz2", "MB", clock=clock)
    bar.set_total(3400)
    clock.now = 10.0
    bar.update(100)
    assert lines_of(caplog) == ["fetching gz2: 100/3400 MB, 10/s, 5 min 30 s left"]


def test_rate_excludes_a_slow_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raydistill")
    clock = Clock()
    bar = log._Lines(300, "distilling", "steps", clock=clock)
    clock.now = 50.0  # compiling
    bar.update(0)
    for done in range(10, 101, 10):
        clock.now += 10
        bar.update(done)
    assert "100/300 steps, 1/s, 3 min 20 s left" in lines_of(caplog)[-1]
    clock.now = 400.0  # no step since: the rate over the whole time
    bar.update(100)
    assert "100/300 steps, 0.25/s, 13 min 20 s left" in lines_of(caplog)[-1]


def test_slow_steps_show_time_per_step_and_unknown_total_shows_no_time_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raydistill")
    clock = Clock()
    bar = log._Lines(None, "training", "experts", clock=clock)
    clock.now = 600.0
    bar.advance(2, network="convnet", accuracy=None)
    assert lines_of(caplog) == ["training: 2 experts, 5 min 0 s each, network=convnet, accuracy=None"]


def test_exception_is_raised_and_last_line_shows_the_step(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raydistill")

    def read() -> None:
        with log.progress(10, "reading", "images") as bar:
            bar.advance(3)
            raise KeyError("x")

    with pytest.raises(KeyError):
        read()
    assert len(caplog.records) == 1
    assert lines_of(caplog)[0].startswith("reading: 3/10 images")
    assert "stopped after" in lines_of(caplog)[0]


def test_empty_loop(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raydistill")
    bar = log._Lines(0, "reading", "images", clock=Clock())
    bar.update(0)
    bar.close("done")
    assert lines_of(caplog) == ["reading: 0/0 images, done after 0.0 s"]


def test_numpy_metrics_have_four_digits() -> None:
    import numpy as np

    assert log._formatted({"loss": np.float32(0.123456), "lr": 1e-5}) == ["loss=0.1235", "lr=1e-05"]


@given(st.floats(min_value=0, max_value=1e8))
def test_duration_is_exact_to_its_smaller_unit(seconds: float) -> None:
    sizes = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
    parts = re.findall(r"([\d.]+) (\w+)", log.duration(seconds))
    assert 1 <= len(parts) <= 2
    read_back = sum(float(number) * sizes[unit] for number, unit in parts)
    assert abs(read_back - seconds) <= sizes[parts[-1][1]]


ON_A_TERMINAL = """
import time
from raydistill import log
log.setup()
with log.progress(4, "distilling [x]", "steps") as outer, log.progress(2, "inner", "things") as inner:
    outer.resume_at(1)  # a step of an earlier run
    inner.set_total(3)
    for i in range(3):
        outer.advance(loss=0.62)
        time.sleep(0.3)
        inner.advance() if i < 2 else None
    log.get_logger("x").info("a line above the bar")
print("/the/artifact")
"""


def on_a_terminal(script: str, columns: int) -> tuple[str, str]:
    """Run a script on a terminal; return its stdout and its plain stderr."""
    import pty

    parent, child = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=child, env=env)
    os.close(child)
    seen = b""
    while True:
        try:
            chunk = os.read(parent, 65536)
        except OSError:  # EIO on Linux when the other end is closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(parent)
    assert process.stdout is not None
    out = process.stdout.read().decode()
    process.stdout.close()
    assert process.wait() == 0, seen.decode()
    return out, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())


needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


@needs_terminal
def test_terminal_shows_a_bar_with_metrics() -> None:
    out, text = on_a_terminal(ON_A_TERMINAL, 160)
    assert out == "/the/artifact\n"
    assert "━" in text
    assert "distilling [x] 4/4 steps" in text
    assert "loss=0.62" in text
    assert re.search(r"[\d.]+ s left", text), "no time left"
    assert "a line above the bar" in text


NARROW = """
import time
from raydistill import log
log.setup()
path = "runs/demo/" + "a-very-long-name-" * 6 + "7dd6d766a07f"
log.get_logger("x").info("a line with many words and the path of an artifact at its end: %s", path)
with log.progress(48, "training experts", "epochs") as bar:
    bar.update(0, experts="starting")
    time.sleep(1.2)
    for done in range(1, 49):
        bar.update(done, experts="2 done", balanced_accuracy=0.1234567, loss=1.5)
        time.sleep(0.01)
"""


@needs_terminal
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_narrow_terminal_shows_steps_and_time_before_metrics(columns: int) -> None:
    _, text = on_a_terminal(NARROW, columns)
    bars = [line.strip() for line in re.split(r"[\r\n]+", text) if "training experts" in line]
    assert all(re.match(r"training experts \d+/48 epochs +\d+(\.\d)? s", line) for line in bars), bars
    assert all(len(line) <= columns for line in bars)
    assert "experts=starting" in text or columns == 60
    assert ("balanced_accuracy" in bars[-1]) == (columns == 120), "only whole metrics"
    assert "loss" not in text, "two metrics at most"
    assert "7dd6d766a07f" in "".join(text.split()), "a path is not broken"
    assert re.search(r"runs/demo/(a-very-long-name-){6}7dd6d766a07f", text.replace("\r\n", "\n")), (
        "the path is in one piece"
    )
