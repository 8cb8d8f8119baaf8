"""A stage of another package: the mean brightness of the galaxies of each class."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from raydistill.artifacts.display import Displayed
from raydistill.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.runtime.tasks import map_tasks
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.table import SURVEY, Kind, Stage


@dataclass(frozen=True)
class Brightness:
    """Set the split to measure."""

    split: str = "test"


@dataclass(frozen=True, repr=False)
class BrightnessReport(Displayed):
    """Mean brightness by class."""

    means: dict[str, float]

    kind = "brightness"
    _json = (("means.json", dict[str, float]),)  # the files of the fields

    def _contents(self) -> str:
        return f"brightness of {len(self.means)} classes"


def spec(plan: Any) -> Any:
    return plan.spec("brightness", {"brightness": plan.config.brightness}, {"curated": plan.curated}, 0)


def mean_of(curated: str, split: str, label: int) -> float:
    galaxies = CuratedSet.open(curated, verify=False).load(split)  # the driver has verified it
    return float(galaxies.images_NHWC[galaxies.labels_N == label].float().mean())


def run(plan: Any, tracker: Any, parent_run: str | None = None) -> BrightnessReport:
    brightness, split, resources = spec(plan), plan.config.brightness.split, plan.config.resources
    if not is_complete(brightness):
        curated = CuratedSet.open(plan.curated.folder)
        with stage_context(plan), tracked_run(plan, brightness, tracker, parent_run, curated):
            labels, words = range(curated.num_classes), ("brightness", "measuring", "classes")
            means = map_tasks(mean_of, labels, lambda label: (curated.folder.uri, split, label), resources, *words)
            by_name = dict(zip(curated.class_names, means, strict=True))
            brightness.folder.write("means.json", json.dumps(by_name).encode())
    return BrightnessReport.open(brightness.folder)


KIND = Kind("brightness", "table of brightness", BrightnessReport, look={"Means": "means.json"})
STAGE = Stage("brightness", SURVEY, "Measure the brightness of each class.", "raydistill brightness demo",
              "how-to/own-survey.md", (KIND,), spec, run, lambda _, value: f"{len(value.means)} classes", config=Brightness)  # fmt: skip
