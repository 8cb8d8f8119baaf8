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
A stopped run resumes when the command is run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from running import run_stage

from raydistill.stages.detect.artifact import DetectionReport
from raydistill.statistics.intervals import Interval, paired_difference
from raydistill.text import text_table

AP, AP50, CLASS = "mean_average_precision", "mean_average_precision_50", "average_precision_50/"
SIZES = ("detect.train_fields=200", "detect.test_fields=60", "detect.max_frames=60", "detect.batch_size=4")
OTHER_SURVEY = (
    "name=detector_frames",
    "seed=7",
    "survey.image_size=192",
    "curate.image_size=64",
    "curate.align=false",
    "survey.telescope={psf_fwhm: 1.0, exposure: 0.6}",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--without", metavar="CLASS")
    options, overrides = parser.parse_known_args()
    figures = detector_runs(overrides, options.frames, options.seeds, options.side, options.steps, options.without)
    uses = list(figures)
    rows = [("frames", "trained on", "AP", "AP50", "difference of AP", "of AP50", "precision", "recall")]
    rows += [_row(use, limit, figures) for use, limit in uses]
    print(text_table(f"Detectors on 100 frames of {options.side} px, {len(options.seeds)} seeds", rows))
    names = sorted({name for of_use in figures.values() for one in of_use for name in one if name.startswith(CLASS)})
    head = ("AP50 of", *(f"{use} {limit or ''}".strip() for use, limit in uses))
    table = [(name.removeprefix(CLASS), *(f"{_mean(figures[key], name):.3f}" for key in uses)) for name in names]
    print(text_table("Each class", [head, *table]))


def detector_runs(
    overrides: list[str], frames: list[int], seeds: list[int], side: int, steps: int, without: str | None = None
) -> dict[tuple[str, int | None], list[dict[str, float]]]:
    """Return each seed's figures by what trained the detector, and its frames."""
    fields = [f"detect.fields.side={side}", "detect.fields.contrast=8.81", *SIZES, *overrides]
    whole, documents = labelled_frames(fields, max(100, *frames))
    if without:
        documents["train"] = without_class(documents["train"], without)
    common = ["demo_diffusion", *fields, f"detect.frames={whole}", f"detect.steps={steps}"]
    common += [f"detect.labelled.{split}={path}" for split, path in documents.items()]
    run_stage("run", ["demo_diffusion", *overrides, "--to", "sample"])
    uses = [("synthetic", None), *((use, limit) for limit in frames for use in ("labelled", "both"))]
    figures: dict[tuple[str, int | None], list[dict[str, float]]] = {}
    for seed in seeds:
        for use, limit in uses:
            words = [*common, f"detect.seed={seed}", f"detect.labelled.use={use}"]
            words += [f"detect.labelled.limit={limit}"] if limit else []
            figures.setdefault((use, limit), []).append(figures_of(run_stage("detect", words)))
    return figures


def labelled_frames(fields: list[str], count: int) -> tuple[Path, dict[str, Path]]:
    """Return the curated whole frames of the other survey, and its COCO documents."""
    survey = ["demo_diffusion", *fields, *OTHER_SURVEY]
    side = next(word.split("=")[1] for word in reversed(fields) if word.startswith("detect.fields.side="))
    run_stage("run", [*survey, "--to", "curate"])
    frames = run_stage("curate", [*survey, "curate.crop_fraction=1", f"curate.image_size={side}"])
    galaxies = ["sample.source={kind: simulator, picture_size: 192}", "sample.conditions=null"]
    synthetic = run_stage("sample", [*survey, *galaxies, "sample.num_images=630"])
    words = [f"detect.set={synthetic}", f"detect.train_fields={count}", "detect.test_fields=100", "detect.steps=1"]
    report = run_stage("detect", [*survey, *words, "detect.seed=100"])
    return frames, {split: report / f"{split}.json" for split in ("train", "test")}


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
    runs = figures[use, limit]
    differences = ["", ""]
    if use == "both":
        gains = [gain(runs, figures["labelled", limit], name) for name in (AP, AP50)]
        differences = [f"{of.value:+.3f} ± {of.high - of.value:.3f}" for of in gains]
    cells = [f"{_mean(runs, name):.3f}" for name in (AP, AP50)]
    return (
        str(limit or ""),
        use,
        *cells,
        *differences,
        *(f"{_mean(runs, name):.3f}" for name in ("precision", "recall")),
    )


if __name__ == "__main__":
    main()
