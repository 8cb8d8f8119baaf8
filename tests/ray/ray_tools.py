"""Tools of the pipeline's tests: tiny configs, digests, and workers to kill."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from raydistill import config as configs
from raydistill.config import Config
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.tracking.tracker import Tracker

TINY = Path(__file__).parents[1] / "configs" / "tiny.yaml"
SILENT = Tracker("", "tests", enabled=False)


def tiny(output: Path | str, *overrides: str) -> Config:
    """Return the config of the tiny run in a folder, without MLflow."""
    return configs.load(TINY, [f"output={output}", "tracking.enabled=false", *overrides])


def content(spec: ArtifactSpec) -> str:
    """Return the content digest of a finished artifact."""
    return str(json.loads(spec.folder.read("manifest.json"))["content"])


def copy_of(root: Path, to: Path, *kinds: str) -> Path:
    """Copy the artifacts of these kinds to the run folder `to`; return it."""
    for kind in kinds:
        (folder,) = (root / "tiny").glob(f"{kind}-*")
        shutil.copytree(folder, to / "tiny" / folder.name)
    return to


def below(config: Config, kind: str) -> Path:
    """Return the local folder of an artifact."""
    return Path(getattr(Plan(config), kind).folder.uri)


def wait_until(event: str, happened: Callable[[], bool], timeout: float = 120.0, every: float = 0.005) -> None:
    deadline = time.monotonic() + timeout
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {event}")
        time.sleep(every)


def workers(name: str) -> list[psutil.Process]:
    """Return the Ray workers of this process that run `name` (`ray::<name>` in `ps`)."""
    processes = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if (process.cmdline() or [""])[0].startswith(f"ray::{name}"):
                processes.append(process)
    return processes


@dataclass
class WorkerAction:
    """The worker on which `acting_on_worker` acted, or its error."""

    pids: list[int] = field(default_factory=list)
    error: BaseException | None = None


@contextmanager
def acting_on_worker(
    name: str, when: Callable[[], bool], act: Callable[[psutil.Process], object]
) -> Iterator[WorkerAction]:
    """Run `act` on one worker that runs `name`, as soon as `when()` is true.

    Fail if the body ends before.
    """
    done, action, processes = threading.Event(), WorkerAction(), []

    def find_workers() -> bool:
        processes[:] = workers(name)
        return bool(processes)

    def watch() -> None:
        try:
            wait_until(f"the condition to look for ray::{name}", lambda: done.is_set() or when())
            wait_until(f"a worker ray::{name}", lambda: done.is_set() or find_workers(), 60, every=0.02)
            if processes:
                action.pids = [processes[0].pid]
                act(processes[0])
        except BaseException as error:  # raised again in the test's thread
            action.error = error

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield action
    finally:
        done.set()
        thread.join(10)
    if action.error is not None:
        raise action.error
    assert action.pids, f"the stage ended before a worker ray::{name} was found: make the stage longer"


def killing(name: str, when: Callable[[], bool]) -> AbstractContextManager[WorkerAction]:
    """Kill (-9) one worker that runs `name`, as soon as `when()` is true."""
    return acting_on_worker(name, when, lambda worker: worker.send_signal(signal.SIGKILL))


def expecting_worker(name: str) -> AbstractContextManager[WorkerAction]:
    """Fail unless a worker runs `name` while the body runs."""
    return acting_on_worker(name, lambda: True, lambda worker: None)


def folder_survey(root: Path, labels: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Write `root/labels.csv` (id, class); return the settings of a survey.

    Its pictures are in `root/images`, unless `images` is given.
    """
    lines = ["id,label", *(f"{object_id},{label}" for object_id, label in labels.items())]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    images = options.pop("images", None) or FolderImages(root=str(root / "images"), **options)
    return {"catalog": str(root / "labels.csv"), "images": images, "dialect": "plain"}


def figure_is_whole(figure: dict[str, Any], n: int) -> bool:
    """Return whether a figure of n networks has all its parts."""
    return set(figure) == {"mean", "std", "n", "ci95"} and figure["n"] == n and (figure["std"] is None) == (n < 2)
