"""A stage of another package: the mean brightness of the galaxies of each class."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from raydistill.artifacts.display import Displayed
from raydistill.artifacts.manifest import Manifest
from raydistill.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.storage import Folder
from raydistill.table import SURVEY, Kind, Stage


@dataclass(frozen=True)
class Brightness:
    """Set the split to measure."""

    split: str = "test"


@dataclass(frozen=True, repr=False)
class BrightnessReport(Displayed):
    """Mean brightness by class."""

    folder: Folder
    manifest: Manifest
    means: dict[str, float]

    def _contents(self) -> str:
        return f"brightness of {len(self.means)} classes"

    kind = "brightness"

    @classmethod
    def _read(cls, folder: Folder, manifest: Manifest) -> BrightnessReport:
        return cls(folder, manifest, json.loads(folder.read("means.json")))


def spec(plan: Any) -> Any:
    return plan.spec("brightness", {"brightness": plan.config.brightness}, {"curated": plan.curated}, 0)


def run(plan: Any, tracker: Any, parent_run: str | None = None) -> BrightnessReport:
    brightness = spec(plan)
    if not is_complete(brightness):
        curated = CuratedSet.open(plan.curated.folder)
        loaded = curated.load(plan.config.brightness.split)
        of_class = {name: loaded.images_NHWC[loaded.labels_N == n] for n, name in enumerate(curated.class_names)}
        with stage_context(plan), tracked_run(plan, brightness, tracker, parent_run, curated):
            means = {name: float(images.float().mean()) for name, images in of_class.items() if len(images)}
            brightness.folder.write("means.json", json.dumps(means).encode())
    return BrightnessReport.open(brightness.folder)


KIND = Kind("brightness", "table of brightness", BrightnessReport, look={"Means": "means.json"})
STAGE = Stage("brightness", SURVEY, "Measure the brightness of each class.", "raydistill brightness demo",
              "how-to/own-survey.md", (KIND,), spec, run, lambda _, value: f"{len(value.means)} classes", config=Brightness)  # fmt: skip
