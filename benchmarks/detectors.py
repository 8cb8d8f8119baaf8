r"""Measure whether synthetic fields help a detector with few labelled frames.

The claim of arXiv:2402.05937.

    python benchmarks/detectors.py [key=value ...] [--frames 10 30 100] [--seeds 0 1 2] [--side 224] [--steps 400]

The labelled frames are simulated fields with exact boxes: galaxies of another survey, twice as
sharp, in another noise. The synthetic fields have samples of a generator that learned the survey of
`demo_diffusion` without boxes; they take sky and noise from frames of the other survey, without its
labels. All trainings have equal numbers of steps. Prints the mean over the seeds of COCO's AP and
AP50 on 100 test frames, with 95 % intervals (t) of the differences to labelled frames alone.

`--without CLASS` removes the boxes of a class from the labelled frames, and leaves out frames that
show it: what do boxes of synthetic galaxies alone teach about it?

`--real CONFIG` takes real frames: whole pictures of the survey of a config, with the sources of
photutils as labels, and samples of its generator. Only figures without classes count there, and
they say how well the detector learns to find what photutils finds.

A stopped run resumes when the command is run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from running import run_stage, shown

from raydistill import load_config
from raydistill.galaxies.pictures.images import decode_picture
from raydistill.galaxies.selection import Split
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.detect.artifact import DetectionReport
from raydistill.stages.detect.measures import central
from raydistill.stages.detect.scenes.fields import boxes_of, document
from raydistill.stages.detect.scenes.pictures import read_frames
from raydistill.stages.detect.worker import reference
from raydistill.statistics.intervals import Interval, paired_difference
from raydistill.text import text_table

AP, AP50, CLASS = "mean_average_precision", "mean_average_precision_50", "average_precision_50/"
ANY = "average_precision"  # of all sources, at an overlap of .5
COLUMNS = {"AP": AP, "AP50": AP50, "AP50, no classes": ANY, "recall": "recall", "precision": "precision"}
SIMULATED = ("detect.fields.contrast=8.81",)
SIZES = ("detect.train_fields=200", "detect.test_fields=60", "detect.max_frames=60", "detect.batch_size=4")
OTHER_SURVEY = (
    "name=detector_frames",
    "seed=7",
    "survey.image_size=192",
    "curate.image_size=64",
    "curate.align=false",
    "sample.filter=null",
    "survey.telescope={psf_fwhm: 1.0, exposure: 0.6}",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--without", metavar="CLASS")
    parser.add_argument("--real", metavar="CONFIG")
    options, overrides = parser.parse_known_args()
    figures = detector_runs(
        overrides, options.frames, options.seeds, options.side, options.steps, options.without, options.real
    )
    uses = list(figures)
    rows = [("frames", "trained on", *(f"{name}{of}" for name in COLUMNS for of in ("", ", gain")))]
    rows += [_row(use, limit, figures) for use, limit in uses]
    print(text_table(f"Detectors on 100 frames of {options.side} px, {len(options.seeds)} seeds", rows))
    names = sorted({name for of_use in figures.values() for one in of_use for name in one if name.startswith(CLASS)})
    head = ("AP50 of", *(f"{use} {limit or ''}".strip() for use, limit in uses))
    table = [(name.removeprefix(CLASS), *(f"{_mean(figures[key], name):.3f}" for key in uses)) for name in names]
    print(text_table("Each class", [head, *table]))


def detector_runs(
    overrides: list[str],
    frames: list[int],
    seeds: list[int],
    side: int,
    steps: int,
    without: str | None = None,
    real: str | None = None,
) -> dict[tuple[str, int | None], list[dict[str, float]]]:
    """Return each seed's figures by what trained the detector, and its frames."""
    config, contrast = (real, ()) if real else ("demo_diffusion", SIMULATED)
    words = [config, f"detect.fields.side={side}", *contrast, *SIZES, *overrides]
    side = load_config(config, *words[1:]).detect.side
    whole, documents = (real_frames if real else simulated_frames)(words, side, max(100, *frames))
    if without:
        documents["train"] = without_class(documents["train"], without)
    common = [*words, f"detect.frames={whole}", f"detect.steps={steps}"]
    common += [f"detect.labelled.{split}={path}" for split, path in documents.items()]
    run_stage("run", [config, *overrides, "--to", "sample"])
    uses = [("synthetic", None), *((use, limit) for limit in frames for use in ("labelled", "both"))]
    figures: dict[tuple[str, int | None], list[dict[str, float]]] = {}
    for seed in seeds:
        for use, limit in uses:
            of_use = [f"detect.seed={seed}", f"detect.labelled.use={use}"]
            of_use += [f"detect.labelled.limit={limit}"] if limit else []
            figures.setdefault((use, limit), []).append(figures_of(run_stage("detect", [*common, *of_use])))
    return figures


def simulated_frames(words: list[str], side: int, count: int) -> tuple[Path, dict[Split, Path]]:
    """Return the curated whole frames of the other survey, and its COCO documents."""
    survey = [*words, *OTHER_SURVEY]
    run_stage("run", [*survey, "--to", "curate"])
    frames = run_stage("curate", [*survey, "curate.crop_fraction=1", f"curate.image_size={side}"])
    galaxies = ["sample.source={kind: simulator, picture_size: 192}", "sample.conditions=null"]
    synthetic = run_stage("sample", [*survey, *galaxies, "sample.num_images=630"])
    more = [f"detect.set={synthetic}", f"detect.train_fields={count}", "detect.test_fields=100", "detect.steps=1"]
    report = run_stage("detect", [*survey, *more, "detect.seed=100"])
    return frames, {split: report / f"{split}.json" for split in ("train", "test")}


def real_frames(words: list[str], side: int, count: int) -> tuple[Path, dict[Split, Path]]:
    """Return curated whole pictures, and COCO documents with sources of photutils.

    A central source has the class of its galaxy; the others are called stars.
    """
    frames = run_stage("curate", [*words, "curate.crop_fraction=1", f"curate.image_size={side}", "curate.align=false"])
    curated, model = CuratedSet.open(str(frames)), load_config(words[0], *words[1:]).detect.fields
    names, documents = tuple(curated.class_names), {}
    wanted: dict[Split, int] = {"train": count, "test": 100}
    for split, number in wanted.items():
        folder = frames.parent / f"labelled-{split}-{side}-{number}"
        folder.mkdir(exist_ok=True)
        images = []
        for row in read_frames(curated, split, number, seed=0).to_pylist():
            name = f"{row['object_id']}.png"
            (folder / name).write_bytes(row["image"])
            sources = reference(decode_picture(row["image"], name), model)
            middle = central(boxes_of(sources), side)
            for source, is_central in zip(sources, middle, strict=True):
                source["category_id"] = row["label"] + 1 if is_central else len(names) + 1
            images.append({"file_name": name, "width": side, "height": side, "annotations": sources})
        contents = document(images, names, "Real frames with sources of photutils", synthetic=False)
        documents[split] = folder / "frames.json"
        documents[split].write_text(json.dumps(contents))
    return frames, documents


def without_class(document: Path, name: str) -> Path:
    """Write the document without the frames that show a class, and return its path."""
    contents = json.loads(document.read_text())
    (number,) = (category["id"] for category in contents["categories"] if category["name"] == name)
    shown = {source["image_id"] for source in contents["annotations"] if source["category_id"] == number}
    contents["images"] = [image for image in contents["images"] if image["id"] not in shown]
    contents["annotations"] = [source for source in contents["annotations"] if source["image_id"] not in shown]
    path = document.with_name(f"train-without-{name}.json")
    path.write_text(json.dumps(contents))
    print(f"{len(contents['images'])} of {len(contents['images']) + len(shown)} frames do not show {name}")
    return path


def figures_of(folder: Path) -> dict[str, float]:
    """Return a report's figures of the detector on labelled frames by their name."""
    rows = DetectionReport.open(str(folder), verify=False).metrics["figures"]
    return {row["metric"]: row["value"] for row in rows if (row["images"], row["method"]) == ("labelled", "detector")}


def _mean(runs: list[dict[str, float]], name: str) -> float:
    return float(np.mean([run.get(name, np.nan) for run in runs]))


def gain(both: list[dict[str, float]], alone: list[dict[str, float]], name: str) -> Interval:
    """Return the mean gain of a figure over the seeds."""
    return paired_difference([run[name] for run in both], [run[name] for run in alone])


def _row(use: str, limit: int | None, figures: dict[tuple[str, int | None], list[dict[str, float]]]) -> tuple[str, ...]:
    cells = []
    for name in COLUMNS.values():
        cells += [f"{_mean(figures[use, limit], name):.3f}", ""]
        if use == "both":
            of = gain(figures[use, limit], figures["labelled", limit], name)
            cells[-1] = shown(of, "+")
    return (str(limit or ""), use, *cells)


if __name__ == "__main__":
    main()
