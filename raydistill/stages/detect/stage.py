"""detect: train a detector on synthetic fields, and evaluate it on real frames.

    driver    -> sky and noise of real training frames
    Ray Data  -> fields, with exact boxes and masks   {block, …} -> PNG and a file per block
    Ray task  -> the detector
    Ray Data  -> sources of test fields and of real test frames, by detector and photutils
    driver    -> COCO documents, metrics, a figure

A field depends on its split and number alone, so any number of workers gives the same bits. A
stopped command resumes with the blocks that are missing, and the training from its last checkpoint.

On real frames the sources of photutils are a reference, and not the truth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tables import decode_images
from raydistill.config import Resources
from raydistill.errors import ArtifactIncompatible
from raydistill.log import get_logger, progress
from raydistill.morphology.structure import Box, box_of, central_source, find_sources
from raydistill.pipeline.plan import Plan
from raydistill.runtime.failures import WORKER_FAILURES, one_line, translate_errors
from raydistill.runtime.ray_data import finish_blocks
from raydistill.runtime.resources import Processor, ensure_schedulable
from raydistill.runtime.stages import is_complete, save_figure, stage_context, tracked_run
from raydistill.runtime.tasks import worker_task
from raydistill.simulation.injections.base import to_light
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.detect.artifact import FIGURE, METRICS, DetectionReport
from raydistill.stages.detect.evaluation import Evaluated, draw_frames, figures_of
from raydistill.stages.detect.labelled import Frame, read_labelled
from raydistill.stages.detect.network import import_detection
from raydistill.stages.detect.scenes.fields import Sky, categories, document, measure_sky
from raydistill.stages.detect.scenes.pictures import (
    FIELD_SPLITS,
    NO_CLASSES,
    FieldSplit,
    Stamps,
    check_galaxies,
    choose_pictures,
    class_names,
    read_frames,
)
from raydistill.stages.detect.specs import detection_spec, frames_spec, require_frames, synthetic_spec
from raydistill.stages.detect.training import TRAINED, TrainingTask, train_detector
from raydistill.stages.detect.worker import FieldMaker, SourceFinder
from raydistill.stages.sample.artifact import SyntheticSet
from raydistill.storage import Folder, checked
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)

BLOCK = 16  # fields or pictures of a task
Record = dict[str, Any]


def detect(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> DetectionReport:
    """Train and evaluate a detector, or open the existing report.

    Raises
    ------
    ConfigError
        torchvision or photutils is not installed.
    ArtifactMissing
        The synthetic set or the frames do not exist.
    ArtifactIncompatible
        The frames have another side than the fields; a synthetic galaxy was made from one of them;
        or too few pictures are left.
    DivergenceError
        If the loss is not finite.
    """
    spec = detection_spec(plan)
    if is_complete(spec):
        return DetectionReport.open(spec.folder)
    require_frames(plan)
    import_detection()
    synthetic = SyntheticSet.open(synthetic_spec(plan).folder)
    frames = CuratedSet.open(frames_spec(plan).folder)
    frames.require_splits("train", "test")
    if frames.summary.image_size != plan.config.detect.side:
        what = f"its frames have {frames.summary.image_size} px, and the fields {plan.config.detect.side} px"
        raise ArtifactIncompatible(what, frames.folder.uri, "give frames with curate.image_size=detect.fields.side")
    check_galaxies(synthetic, frames)
    rows = choose_pictures(synthetic, plan.config.detect)
    with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, frames) as run:
        _Stage(plan, spec.folder, synthetic, frames, rows).run(spec, run)
    return DetectionReport.open(spec.folder)


class _Stage:
    """The steps of the stage."""

    def __init__(self, plan: Plan, folder: Folder, synthetic: SyntheticSet, frames: CuratedSet, rows: pa.Table) -> None:
        self.plan, self.folder, self.synthetic, self.frames, self.rows = plan, folder, synthetic, frames, rows
        self.detect, self.names = plan.config.detect, class_names(synthetic)

    def run(self, spec: Any, run: Run) -> None:
        labelled, tests = self._read_labelled()
        skies, central_box = self._measure_frames()
        fields = {split: self._make_fields(split, skies) for split in FIELD_SPLITS}
        if checked.recorded(self.folder, TRAINED) is None:  # an earlier run may have ended after it
            self._train(fields["train"], labelled, run)
        frames = read_frames(self.frames, "test", self.detect.max_frames, self.detect.seed)
        evaluated: dict[str, Evaluated] = {}
        for split in FIELD_SPLITS[1:]:
            pictures = [self.folder.read(record["file_name"]) for record in fields[split]]
            evaluated[split] = Evaluated(self._find(split, pictures), fields[split])
        evaluated["frames"] = Evaluated(
            self._find("frames", frames["image"].to_pylist()), None, frames["label"].to_pylist()
        )
        if tests:
            found = self._find("labelled", [frame.picture for frame in tests])
            evaluated["labelled"] = Evaluated(found, [{"annotations": frame.annotations} for frame in tests])
            self._write_labelled(tests, found)
        same_classes = tuple(self.frames.class_names) == self.names
        side, names = self.detect.side, self.names if same_classes else None
        metrics = figures_of(evaluated, central_box, side, self.detect.seed, names, self._categories())
        metrics |= {"synthetic": self.synthetic.manifest.content, "survey": self.frames.summary.survey}
        if tests:
            metrics |= {"labelled_frames": {"train": len(labelled), "test": len(tests)}}
        metrics |= {"pictures": {split: self.rows["split"].to_pylist().count(split) for split in FIELD_SPLITS}}
        self._write(fields, evaluated, frames, metrics)
        images = decode_images(frames["image"], self.detect.side).numpy()
        save_figure(
            spec, run, FIGURE, lambda to: draw_frames(to, images, evaluated["frames"].found, metrics["threshold"])
        )
        for row in metrics["figures"]:
            run.metrics({f"{row['images']}/{row['method']}/{row['metric']}".replace(" ", "_"): row["value"]}, 0)

    def _categories(self) -> tuple[str, ...]:
        return tuple(category["name"] for category in categories(self.names))

    def _read_labelled(self) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
        """Return the labelled frames that train the detector, and those of the test."""
        if self.detect.labelled is None:
            return (), ()
        train, test = read_labelled(self.detect, self._categories())
        return () if self.detect.labelled.use == "synthetic" else tuple(train), tuple(test)

    def _measure_frames(self) -> tuple[tuple[Sky, ...], Box]:
        """Return the skies of training frames, and their central galaxies' median box."""
        model = self.detect.fields
        frames = read_frames(self.frames, "train", self.detect.max_frames, self.detect.seed)
        skies, sides = [], []
        for picture in decode_images(frames["image"], model.side).numpy():
            light = to_light(picture, model.contrast)
            labels = find_sources(light, model.sigmas, model.min_area)
            skies.append(measure_sky(light, labels))
            if number := central_source(labels):
                box = box_of(labels == number)
                sides.append((box.right - box.left, box.bottom - box.top))
        width, height = np.median(sides, axis=0) if sides else (model.side / 4, model.side / 4)
        middle = model.side / 2
        return tuple(skies), Box(middle - width / 2, middle - height / 2, middle + width / 2, middle + height / 2)

    def _make_fields(self, split: FieldSplit, skies: tuple[Sky, ...]) -> list[Record]:
        """Return the records of the fields of a split, with their annotations."""
        count = self.detect.train_fields if split == "train" else self.detect.test_fields
        if split == "train" and self.detect.labelled is not None and self.detect.labelled.use == "labelled":
            count = 0
        width = self.detect.side * self.synthetic.summary.crop_fraction / self.frames.summary.crop_fraction
        of_split = self.rows.filter(pa.array(np.array(self.rows["split"].to_pylist()) == split))
        names, origins = of_split["object_id"].to_pylist(), of_split["origin"].to_pylist()
        stamps = Stamps(self.synthetic.folder.uri, tuple(names), self.detect.fields, width, self.names != NO_CLASSES)
        galaxies = {name: origin for name, origin in zip(names, origins, strict=True) if origin is not None}
        maker = FieldMaker(self.folder.uri, stamps, galaxies, skies, self.detect, len(self.names) + 1)
        blocks = {}
        for first in range(0, count, BLOCK):
            size = min(BLOCK, count - first)
            table = pa.table({"split": [split], "first": [first], "count": [size]})
            blocks[f"{PARTIAL}/fields/{split}-{first:06d}.json"] = size, table
        resources = replace(self.plan.config.resources, gpus=0)
        return self._run_blocks(blocks, maker, f"making {split} fields", resources)

    def _find(self, name: str, pictures: Sequence[bytes]) -> list[Record]:
        """Return what the detector and photutils find in PNG pictures."""
        resources = self.plan.config.resources
        finder = SourceFinder(self.folder.uri, self.detect.fields, Processor.of(resources))
        blocks = {}
        for first in range(0, len(pictures), BLOCK):
            part = list(pictures[first : first + BLOCK])
            blocks[f"{PARTIAL}/sources/{name}-{first:06d}.json"] = len(part), pa.table({"picture": part})
        return self._run_blocks(blocks, finder, f"detecting in {name}", resources)

    def _run_blocks(
        self, blocks: dict[str, tuple[int, pa.Table]], work: Callable[[pa.Table], int], doing: str, resources: Resources
    ) -> list[Record]:
        """Run the blocks that have no file yet; return the records of all files, in order."""
        tables = (
            (name, size, table.append_column("block", pa.array([name] * len(table))))
            for name, (size, table) in blocks.items()
        )
        finish_blocks(self.folder, tables, work, resources, stage="detect", doing=doing, is_finished=checked.recorded)
        return [record for name in blocks for record in checked.values_of(self.folder, name)["records"]]

    def _train(self, fields: list[Record], labelled: tuple[Frame, ...], run: Run) -> None:
        """Train the detector in a Ray task; resume from its checkpoint if the worker dies."""
        resources, detect = self.plan.config.resources, self.detect
        ensure_schedulable(resources)
        task = TrainingTask(
            self.folder.uri, tuple(fields), labelled, self._categories(), detect, Processor.of(resources),
            resources.checkpoint_seconds,
        )  # fmt: skip
        trainer = worker_task(train_detector, resources, max_retries=0, num_returns="streaming")
        what = "detect: %d steps of %d pictures, from %d fields and %d labelled frames"
        log.info(what, detect.steps, detect.batch_size, len(fields), len(labelled))
        last_seen = failures = 0
        with progress(detect.steps, "training", "steps") as shown, translate_errors("detect"):
            while True:
                before = last_seen
                try:
                    for reference in trainer.remote(task):
                        step, loss = ray.get(reference)
                        shown.update(step, loss=loss)
                        run.metrics({"loss": loss}, step)
                        last_seen = max(last_seen, step)
                    return
                except WORKER_FAILURES as error:
                    failures = 1 if last_seen > before else failures + 1
                    if failures > resources.max_restarts:
                        raise
                    log.warning("detect: the worker died (%s); it starts again from its checkpoint", one_line(error))

    def _write(
        self, fields: dict[FieldSplit, list[Record]], evaluated: dict[str, Evaluated], frames: pa.Table, metrics: Record
    ) -> None:
        """Write the COCO documents and the metrics."""
        for split, records in fields.items():
            text = f"Synthetic fields of raydistill, {split} split, with exact boxes and masks"
            self._json(f"{split}.json", document(records, self.names, text, synthetic=True))
        side = self.detect.side
        real = [
            {"file_name": name, "width": side, "height": side, "annotations": record["annotations"]}
            for name, record in zip(frames["object_id"].to_pylist(), evaluated["frames"].found, strict=True)
        ]
        text = "Frames of the survey with sources of photutils, which are a reference and not the truth"
        self._json("frames.json", document(real, self.names, text, synthetic=False))
        for name in ("test", "frames"):
            self._json(f"detections_{name}.json", results(evaluated[name].found))
        self._json(METRICS, metrics)

    def _write_labelled(self, frames: tuple[Frame, ...], found: list[Record]) -> None:
        """Write the labelled test frames, and what the detector finds there."""
        side = self.detect.side
        images = [
            {"file_name": frame.file_name, "width": side, "height": side, "annotations": frame.annotations}
            for frame in frames
        ]
        text = "The test frames of detect.labelled, in the categories of the detector"
        self._json("labelled.json", document(images, self.names, text, synthetic=False))
        self._json("detections_labelled.json", results(found))

    def _json(self, name: str, values: Any) -> None:
        self.folder.write(name, json.dumps(values, indent=1 if name == METRICS else None).encode())


def results(evaluated: Sequence[Record]) -> list[Record]:
    """Return detections in COCO's format of results."""
    rows = []
    for number, record in enumerate(evaluated, start=1):
        for (left, top, right, bottom), score, category in zip(
            record["boxes"], record["scores"], record["categories"], strict=True
        ):
            box = [left, top, round(right - left, 2), round(bottom - top, 2)]
            rows.append({"image_id": number, "category_id": category + 1, "bbox": box, "score": score})
    return rows
