"""What the tests of the pipeline share: configs of the tiny run, quiet trackers, digests, and workers to be killed."""

from __future__ import annotations

import contextlib
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
from raydistill.galaxies.images import FolderImages
from raydistill.pipeline.plan import ArtifactSpec, Plan
from raydistill.pipeline.tracking.tracker import Tracker

TINY = Path(__file__).parents[1] / "configs" / "tiny.yaml"
SILENT = Tracker("", "tests", enabled=False)


def tiny(output: Path | str, *overrides: str) -> Config:
    """The tiny run below `output`, without MLflow."""
    return configs.load(TINY, [f"output={output}", "tracking.enabled=false", *overrides])


def content(spec: ArtifactSpec) -> str:
    """The content digest of a finished artifact."""
    import json

    return str(json.loads(spec.folder.read("manifest.json"))["content"])


def copy_of(root: Path, to: Path, *kinds: str) -> Path:
    """A run folder below `to` with the artifacts of these kinds, which a stage then takes as its own."""
    for kind in kinds:
        (found,) = (root / "tiny").glob(f"{kind}-*")
        shutil.copytree(found, to / "tiny" / found.name)
    return to


def below(config: Config, kind: str) -> Path:
    """The folder of an artifact on this disk."""
    return Path(getattr(Plan(config), kind).folder.uri)


def wait_until(what: str, happens: Callable[[], bool], timeout: float = 120.0, every: float = 0.005) -> None:
    deadline = time.monotonic() + timeout
    while not happens():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{timeout:g} s went by and not yet: {what}")
        time.sleep(every)


def workers(name: str) -> list[psutil.Process]:
    """Ray workers below this process that are busy with `name`, as `ps` shows them: `ray::<name>`."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if (process.cmdline() or [""])[0].startswith(f"ray::{name}"):
                found.append(process)
    return found


@dataclass
class Met:
    """The workers that were met beside a stage."""

    pids: list[int] = field(default_factory=list)
    error: BaseException | None = None


@contextmanager
def meeting(name: str, when: Callable[[], bool], act: Callable[[psutil.Process], object]) -> Iterator[Met]:
    """While the body blocks: as soon as `when` holds, `act` on one worker busy with `name`. Fails if none was met."""
    done, story, found = threading.Event(), Met(), []

    def look() -> bool:
        found[:] = workers(name)
        return bool(found)

    def meet() -> None:
        try:
            wait_until(f"the moment to look for ray::{name}", lambda: done.is_set() or when())
            wait_until(f"a worker ray::{name}", lambda: done.is_set() or look(), 60, every=0.02)
            if found:
                story.pids = [found[0].pid]
                act(found[0])
        except BaseException as error:  # told by the test's own thread
            story.error = error

    thread = threading.Thread(target=meet, daemon=True)
    thread.start()
    try:
        yield story
    finally:
        done.set()
        thread.join(10)
    if story.error is not None:
        raise story.error
    assert story.pids, f"the stage ended before a worker ray::{name} was met: make the stage longer"


def killing(name: str, when: Callable[[], bool]) -> AbstractContextManager[Met]:
    """While the body blocks: as soon as `when` holds, `kill -9` one worker busy with `name`. Fails if none was killed."""
    return meeting(name, when, lambda worker: worker.send_signal(signal.SIGKILL))


def seen(name: str) -> AbstractContextManager[Met]:
    """Fails if no worker was busy with `name` while the body blocked."""
    return meeting(name, lambda: True, lambda worker: None)


def folder_survey(root: Path, labels: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A plain survey as a config's dictionary: `labels.csv` with id and class, pictures in `root/images`."""
    lines = ["id,label", *(f"{object_id},{label}" for object_id, label in labels.items())]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    images = options.pop("images", None) or FolderImages(root=str(root / "images"), **options)
    return {"catalog": str(root / "labels.csv"), "images": images, "dialect": "plain"}
