"""The audit finds planted defects, each by the metric that should find it.

It finds nothing on held-out real pictures.
"""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raydistill.simulation.config import SimulatedSurvey
from raydistill.simulation.simulate import simulate_galaxy
from tests.unit.stages.audit.planted import (
    Defect,
    Pictures,
    audited,
    audited_pair,
    blurred,
    blurred_class,
    brighter,
    collapsed,
    copies,
    few_copies,
    honest,
    mislabelled,
    missing_class,
    redder,
    repeated,
)

SEEDS = range(10)
SIZE = 1000  # pictures of each sample, the default of `audit.num_pictures`
NUM_SIMULATED = 3400  # thirds of which allow samples of about `SIZE` with equal class proportions
# For each defect the metrics of which one must find it.
EXPECTED: dict[str, set[tuple[str, str]]] = {
    "copies": {("memorisation", "pixels")},
    "few copies": {("closest_copies", "pixels")},
    "repeated": {("twins", "pixels")},
    "missing class": {("class_share", "class 3"), ("coverage", "scattering"), ("recall", "scattering")},
    "brightness": {("wasserstein", "flux")},
    "colour": {("wasserstein", "colour_red_green"), ("wasserstein", "colour_green_blue")},
    "blur": {("frechet", "scattering"), ("wasserstein", "concentration")},
    "mode collapse": {("coverage", "scattering"), ("coverage", "morphology")},
    "wrong labels": {("wrong_labels", "all classes")},
    "blurred class": {("class_kernel", "class 1, scattering"), ("class_kernel", "class 1, morphology")},
}
# Defects of simulated pictures that other metrics find, and not this one: their flux varies much.
FOUND_BY_OTHERS = {"simulated": [(2, "brightness"), (9, "brightness")], "observed": []}
DEFECTS: dict[str, Defect] = {
    "copies": copies,
    "few copies": few_copies,
    "repeated": repeated,
    "missing class": missing_class(3),
    "brightness": brighter,
    "colour": redder,
    "blur": blurred,
    "mode collapse": collapsed,
    "wrong labels": mislabelled,
    "blurred class": blurred_class(1),
}


def toy_galaxies(count: int, side: int = 16) -> Pictures:
    """Return four classes of simple galaxies.

    They are round, elongated, ringed, and with a companion.
    """
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    images, labels = [], rng.integers(4, size=count)
    for label in labels:
        angle, sigma = rng.uniform(0, np.pi), rng.lognormal(np.log(1.8), 0.06)
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        light = np.exp(-(along**2 + (across * (2.5 if label == 1 else 1.0)) ** 2) / 2 / sigma**2)
        if label == 2:
            light = light / 2 + np.exp(-((np.hypot(x, y) - 4.5) ** 2) / 0.8) / 2
        if label == 3:
            light += np.exp(-((along - 5) ** 2 + across**2) / 2)
        colour = np.array([1.0, 0.8, 0.6]) * np.exp(rng.normal(0, 0.08, 3))
        picture = 0.5 * rng.lognormal(0, 0.08) * light[..., None] * colour + rng.normal(0.03, 0.01, (side, side, 3))
        images.append(np.rint(picture.clip(0, 1) * 255).astype(np.uint8))
    return Pictures(np.stack(images), labels)


def test_planted_defects_are_found_and_held_out_pictures_are_not() -> None:
    few = DEFECTS | {"none": honest, "repeated": partial(repeated, share=20)}  # 230 pictures show no fewer twins
    result = audited(toy_galaxies(750), few, 250, seed=1, permutations=499)
    assert result.pop("none") == set()
    missed = {name: metrics for name, metrics in result.items() if not metrics & EXPECTED[name]}
    assert not missed
    assert result["copies"] <= {
        ("memorisation", "pixels"),
        ("nearer_to_training", "pixels"),
        ("closest_copies", "pixels"),
    }
    assert (result["few copies"], result["repeated"]) == (EXPECTED["few copies"], EXPECTED["repeated"])


@pytest.mark.parametrize("seed", range(3))
def test_two_generators_that_copy_their_own_half_are_found_and_honest_ones_are_not(seed: int) -> None:
    pictures = toy_galaxies(480)
    found = {("own_half", "pixels"), ("nearer_to_own_half", "pixels")}
    assert ("own_half", "pixels") in audited_pair(pictures, copies, seed) <= found
    assert not audited_pair(pictures, honest, seed)


@pytest.fixture(scope="module")
def simulated() -> Pictures:
    """Return pictures of the simulated survey, the central half, at 32 pixels."""
    survey = SimulatedSurvey(num_galaxies=NUM_SIMULATED, image_size=64)
    rows = [simulate_galaxy(survey, 0, number) for number in range(survey.num_galaxies)]
    images = [Image.open(io.BytesIO(row["jpeg"])).convert("RGB").crop((12, 12, 52, 52)) for row in rows]
    small = [np.asarray(image.resize((32, 32), Image.Resampling.LANCZOS)) for image in images]
    return Pictures(np.stack(small), np.array([row["truth_class"] for row in rows]))


@pytest.fixture(scope="module")
def observed(data_root: Path) -> Pictures:
    """Return real Galaxy Zoo 2 pictures of five classes: central half, at 32 pixels."""
    table = pd.read_csv(data_root / "gz2_kaggle" / "labels_5_classes.csv")
    images, labels = [], []
    for galaxy, label in zip(table["GalaxyID"], table["class5"], strict=True):  # class 3: edge on
        path = data_root / "gz2_kaggle" / "images_training_rev1" / f"{galaxy}.jpg"
        if path.exists():
            image = Image.open(path).convert("RGB")
            edge = image.width // 4
            square = image.crop((edge, edge, image.width - edge, image.height - edge))
            images.append(np.asarray(square.resize((32, 32), Image.Resampling.LANCZOS)))
            labels.append(label)
    return Pictures(np.stack(images), np.array(labels))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("source", ["simulated", "observed"])
def test_ten_seeds_find_every_defect_and_raise_no_alarm(source: str, request: pytest.FixtureRequest) -> None:
    pictures: Pictures = request.getfixturevalue(source)
    missed, by_others, alarms = [], [], []
    for seed in SEEDS:
        result = audited(pictures, {"none": honest, **DEFECTS}, SIZE, seed)
        alarms += [(seed, metric) for metric in result.pop("none")]
        print(seed, "alarms", alarms, flush=True)
        missed += [(seed, name) for name, metrics in result.items() if not metrics]
        by_others += [(seed, name) for name, metrics in result.items() if metrics and not metrics & EXPECTED[name]]
        for name, metrics in result.items():
            print(seed, name, sorted(metrics & EXPECTED[name]), len(metrics), flush=True)
    assert not alarms
    assert not missed
    assert by_others == FOUND_BY_OTHERS[source]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("source", ["simulated", "observed"])
def test_ten_seeds_find_wrong_labels_and_copies_of_a_training_half_in_300_pictures(
    source: str, request: pytest.FixtureRequest
) -> None:
    pictures: Pictures = request.getfixturevalue(source)
    defects: dict[str, Defect] = {"none": honest, "wrong labels": mislabelled}
    labels = [audited(pictures, defects, 300, seed) for seed in SEEDS]
    assert not set().union(*(result["none"] for result in labels))
    assert sum(("wrong_labels", "all classes") in result["wrong labels"] for result in labels) >= 9
    few = pictures.take(np.arange(1200))
    # By the level of the test, five or more of 100 have a chance of .003.
    assert [audited_pair(few, honest, seed) for seed in range(100)].count(set()) >= 96
    assert all(("own_half", "pixels") in audited_pair(few, few_copies, seed) for seed in SEEDS)
