"""Set up every test: no telemetry, one thread, the folder of the real data.

Each run writes its slowest tests to build/slowest.txt.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from pathlib import Path

import filelock
import hypothesis
import pytest

# Every checkout tries the same examples; HYPOTHESIS_SEARCH=1 looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
if not os.environ.get("HYPOTHESIS_SEARCH"):
    hypothesis.settings.load_profile("repeatable")

# Set before ray, mlflow or torch are imported by any test module.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("OMP_NUM_THREADS", "1")

SLOW = ("ray", "e2e", "gpu")  # folders of tests that need Ray, a server or a separate process
SLOWEST = 25  # tests whose times are written


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name in SLOW:
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the seconds of the slowest tests, each with its fixtures."""
    seconds: dict[str, float] = defaultdict(float)
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid] += report.duration
    path = terminalreporter.config.rootpath / "build" / "slowest.txt"
    path.parent.mkdir(exist_ok=True)
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:SLOWEST]
    path.write_text("".join(f"{spent:8.2f} s  {name}\n" for name, spent in slowest))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data; the test is skipped where there is none."""
    named = os.environ.get("RAYDISTILL_DATA")
    if not named:
        pytest.skip("needs real galaxies: set RAYDISTILL_DATA to the folder that holds gz2_kaggle, gz2_hart16, ...")
    root = Path(named)
    if not root.is_dir():
        pytest.skip(f"RAYDISTILL_DATA={named} is not a folder")
    return root


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of the tiny config, with classifiers in MLflow.

    One process of pytest runs it, the others wait. Write only to copies of its artifacts.
    """
    from tests.e2e import tools

    base = tmp_path_factory.getbasetemp()
    output = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "undisturbed"
    with (
        filelock.FileLock(f"{output}.lock"),
        tempfile.TemporaryDirectory(prefix="rd-un-", ignore_cleanup_errors=True) as ray_folder,
    ):
        if not (output / "ended").exists():
            command = tools.raydistill(output, tools.environment(Path(ray_folder)), "tracking.models=true")
            code = command.wait()
            assert code == 0, f"the undisturbed run ended with {code}:\n{command.log[-4000:]}"
            (output / "ended").touch()
    return output
