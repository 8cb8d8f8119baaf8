"""Move detectors of synthetic pictures between generators, and between surveys.

    RAYDISTILL_DATA=FOLDER python benchmarks/forensics.py CONFIG --sets NAME=PATH ... [--other CONFIG NAME=PATH ...]

CONFIG is a curated survey, and each PATH a synthetic set made from it. A detector is trained on
each set (`audit.pictures`), and scores the others: the first table has the area under the ROC curve
against held-out galaxies (validation and test), with its 95 % interval over pictures. The second
one has the set on the diagonal with each stream alone, the third one after damage: JPEG of quality
60, half the size and back, and noise of 2 % of white; synthetic and held-out pictures are damaged
alike. `error` is the expected calibration error of the scores. With --other, the same detectors
score the sets of another survey against its own held-out galaxies.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import ray
from PIL import Image

from raydistill import load_config
from raydistill.galaxies.selection import Split
from raydistill.learning.metrics import reliability
from raydistill.pipeline.plan import Plan
from raydistill.seeding import fold_in
from raydistill.stages.audit.forensics import (
    STREAMS,
    DetectorRunner,
    Pictures,
    area,
    trained_detector,
)
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.sample.artifact import SyntheticSet
from raydistill.storage import Folder
from raydistill.text import text_table

Pixels = np.ndarray
SEED = 0


def jpeg(picture: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def resized(picture: Pixels) -> Pixels:
    image, side = Image.fromarray(picture), len(picture)
    return np.asarray(image.resize((side // 2, side // 2)).resize((side, side)))


def noisy(picture: Pixels) -> Pixels:
    rng = np.random.default_rng(fold_in(SEED, picture.tobytes().hex()[:64]))
    return np.rint((picture + rng.normal(0, 0.02 * 255, picture.shape)).clip(0, 255)).astype(np.uint8)


DAMAGE: dict[str, Callable[[Pixels], Pixels]] = {"JPEG": jpeg, "half size": resized, "noise": noisy}


def shown(synthetic_N: np.ndarray, real_N: np.ndarray) -> str:
    found = area(synthetic_N, real_N)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def opened(config: str, sets: list[str], overrides: list[str]) -> tuple[CuratedSet, Pictures, dict[str, Pictures]]:
    """Return the curated set, its held-out pictures, and those of each synthetic set."""
    curated = CuratedSet.open(Plan(load_config(config, *overrides)).curated.folder)
    made = {name: SyntheticSet.open(path) for name, path in (word.split("=", 1) for word in sets)}
    pictures = {name: Pictures(one.load().images_NHWC.numpy(), one.galaxies()) for name, one in made.items()}
    return curated, galaxies(curated, "validation", "test"), pictures


def galaxies(curated: CuratedSet, *splits: Split) -> Pictures:
    """Return the galaxies of some splits."""
    images = np.concatenate([curated.load(split).images_NHWC.numpy() for split in splits])
    tables = [curated.table(split, ["object_id"]) for split in splits]
    return Pictures(images, [id_ for table in tables for id_ in table["object_id"].to_pylist()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--other", nargs="+", default=[])
    parser.add_argument("--work", type=Path, default=Path("runs/forensics"))
    options, overrides = parser.parse_known_args()
    curated, held_out, sets = opened(options.config, options.sets, overrides)
    training = galaxies(curated, "train")
    config = load_config(options.config, *overrides)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    detectors = {}
    for name, pictures in sets.items():
        folder = Folder(str(options.work / curated.manifest.content[:12] / name))
        runner = DetectorRunner(folder=folder, resources=config.resources, seed=SEED)
        detectors[name] = trained_detector(runner, training, pictures)
    head = ["trained on", *sets]
    rows, ablation, robust = [], [], []
    for name, detector in detectors.items():
        real = detector.logits(held_out)
        found = {n: detector.logits(pictures) for n, pictures in sets.items()}
        rows.append([name, *(shown(found[n], real) for n in sets)])
        scores = detector.probability(np.concatenate([found[name], real]))
        labels = np.arange(len(scores)) < len(found[name])
        error = reliability(np.stack([1 - scores, scores], axis=1), labels.astype(int)).error
        unseen = [n for n in sets if n != name]
        alone = []
        for stream in STREAMS:
            streams = detector.logits(held_out, streams=(stream,))
            alone.append(np.mean([area(detector.logits(sets[n], streams=(stream,)), streams).value for n in unseen]))
        both = np.mean([area(found[n], real).value for n in unseen])
        ablation.append([name, f"{both:.3f}", *(f"{value:.3f}" for value in alone), f"{error:.3f}"])
        cells = []
        for damage in DAMAGE.values():
            damaged = [
                detector.logits(part._replace(images_NHWC=np.stack([damage(picture) for picture in part.images_NHWC])))
                for part in (sets[name], held_out)
            ]
            cells.append(shown(*damaged))
        robust.append([name, *cells])
    print(text_table(f"{options.config}: area under the ROC curve of detectors", [head, *rows]))
    columns = ["trained on", "both streams,\nmean of other sets", *STREAMS, "error"]
    print(text_table("streams, on sets that the detector has not seen", [columns, *ablation]))
    print(text_table("after damage, own set", [["trained on", *DAMAGE], *robust]))
    if options.other:
        _, other_real, others = opened(options.other[0], options.other[1:], overrides)
        moved = [
            [name, *(shown(d.logits(pictures), d.logits(other_real)) for pictures in others.values())]
            for name, d in detectors.items()
        ]
        print(text_table(f"the same detectors on {options.other[0]}", [["trained on", *others], *moved]))


if __name__ == "__main__":
    main()
