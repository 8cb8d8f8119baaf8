"""Adapt networks to galaxies as another survey would show them.

    RAYDISTILL_DATA=FOLDER python benchmarks/legacy_pair.py [key=value ...] [--output runs]

Pictures of `gz2_kaggle5` are written twice. The source has poor seeing and noise. The target looks
like the Legacy Surveys: the bands g, r and z in place of g, r and i, and a stretch that shows the
outskirts. The split is by id, so no test galaxy of the target is a training galaxy of the source.
Two adaptations follow: all five classes; and two classes that one survey lacks: the source has no
edge-on galaxies, which are to be rejected, and the target no cigars. Prints both reports: accuracy
on the source, on the target without and with the alignment, with matched pixels, and of networks
that learned its labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from running import run_stage
from scipy.ndimage import gaussian_filter

from raydistill import load_config
from raydistill import open as open_artifact
from raydistill.config import CatalogSurvey
from raydistill.galaxies.pictures.images import decode_picture
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.seeding import fold_in
from raydistill.simulation.injections.base import contrast_of, to_light, to_picture
from raydistill.stages.adapt.artifact import adaptation_report

CONFIG = "gz2_kaggle5"
SEEING, NOISE = 6.0, 0.05  # of the source: sigma in pixels of the picture, and of linear light
BANDS = np.array([[1.2, 0.1, 0.0], [0.3, 0.7, 0.0], [0.0, 0.2, 0.7]])  # red, green and blue of gri: of grz
DEPTH, CONTRAST = 2.0, 6.0  # of the target's stretch
TRAINING = [
    "adapt.training={steps: 1000, augmentation: {operations: [mirror, crop, color, scale], brightness: 0.5, padding: border}}",
    "adapt.lr_grid=[0.03]",
    "adapt.strengths=[0.1]",
]
KNOWN = {
    "all classes": ([], [], "{}"),
    "other classes": (
        ["round", "in_between", "cigar", "spiral"],
        ["round", "in_between", "edge_on", "spiral"],
        "{edge_on: null}",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="runs")
    options, overrides = parser.parse_known_args()
    root = Path(options.output, "legacy_pair").absolute()
    config = load_config(CONFIG, *overrides)
    assert isinstance(config.survey, CatalogSurvey)
    assert isinstance(config.survey.images, FolderImages)
    write_pictures(Path(config.survey.images.root), root, contrast_of(config.survey))
    for title, (of_source, of_target, mapping) in KNOWN.items():
        sets = {}
        for survey, classes in (("source", of_source), ("target", of_target)):
            words = [CONFIG, *overrides, f"output={options.output}", f"name=legacy_{survey}"]
            words += [f"survey.images.root={root / survey}"]
            words += [f"curate.classes=[{', '.join(classes)}]"] if classes else []
            sets[survey] = words, run_stage("run", [*words, "--to", "curate"])
        words = [*sets["source"][0], *TRAINING, f"adapt.target={sets['target'][1]}", f"adapt.classes={mapping}"]
        print(f"\n{title}")
        print(adaptation_report(config, open_artifact(run_stage("adapt", words))))


def write_pictures(images: Path, root: Path, contrast: float) -> None:
    """Write the pictures of both surveys, unless they are there."""
    for survey in ("source", "target"):
        (root / survey).mkdir(parents=True, exist_ok=True)
    for path in sorted(images.glob("*.jpg")):
        if (root / "target" / path.name).exists():
            continue
        light = to_light(decode_picture(path.read_bytes(), path.name), contrast)
        rng = np.random.default_rng(fold_in(0, path.stem))
        blurred = gaussian_filter(light, (SEEING, SEEING, 0)) + NOISE * rng.standard_normal(light.shape)
        for survey, picture in (
            ("source", to_picture(blurred.clip(0), contrast)),
            ("target", to_picture((DEPTH * light @ BANDS.T).clip(0), CONTRAST)),
        ):
            part = root / f"{path.name}.part"  # a stopped run leaves no half picture
            Image.fromarray(picture).save(part, "JPEG", quality=95)
            part.rename(root / survey / path.name)


if __name__ == "__main__":
    main()
