"""Test how whitening is computed, where it applies, and what a run publishes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ray_tools import SILENT, below, content, copy_of, tiny

from raydistill.artifacts.manifest import COST
from raydistill.artifacts.tensors import WHITENING
from raydistill.config import Config
from raydistill.distillation.coreset import random_real
from raydistill.learning.normalise import PixelSums, Whitening
from raydistill.pipeline.plan import Plan
from raydistill.seeding import fold_in, generator
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.stage import curate
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.stage import distill
from raydistill.stages.evaluate.fits import FIT_CACHE
from raydistill.stages.evaluate.stage import evaluate
from raydistill.stages.experts.stage import experts
from raydistill.stages.tune.stage import tune
from tests.private_ray import training_here
from tests.prototype_files import read_prototypes

pytestmark = pytest.mark.long

ZCA = ("curate.whitening=zca", "curate.whitening_eps=0.01", "distill.iterations=4", "distill.validate_every=2")
EVALUATED = ("evaluate.num_networks=1", "evaluate.baselines=[random_real, dm]")


@pytest.fixture(scope="module")
def white(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Return the tiny run with whitening; the plain one is in the same folder."""
    root = copy_of(tiny_root, tmp_path_factory.mktemp("white"), "survey", "curated", "trajectories", "distilled")
    config = tiny(root, *ZCA, *EVALUATED)
    with training_here():
        for stage in (curate, experts, distill, evaluate):
            stage(Plan(config), SILENT)
    return config


def curated_of(config: Config) -> CuratedSet:
    return CuratedSet.open(str(below(config, "curated")))


def test_whitening_is_computed_from_the_training_images_alone(white: Config) -> None:
    curated = curated_of(white)
    sums = PixelSums(3 * 16 * 16)
    sums.add(curated.load("train").images_NHWC)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert curated.normalisation.digest == sums.whitening(0.01).digest
    sums.add(curated.load("test").images_NHWC)
    assert curated.normalisation.digest != sums.whitening(0.01).digest
    torch.set_num_threads(threads)


def test_whitening_does_not_change_the_curated_images(white: Config) -> None:
    plain = CuratedSet.open(str(below(tiny(white.output), "curated")))
    files, others = dict(curated_of(white).manifest.files), dict(plain.manifest.files)
    assert files.pop(WHITENING)
    assert files.pop(COST)
    assert others.pop(COST)
    assert files == others


def test_distilled_set_contains_the_whitening_and_displays_galaxies(white: Config) -> None:
    folder = below(white, "distilled")
    assert (folder / WHITENING).read_bytes() == (below(white, "curated") / WHITENING).read_bytes()
    distilled, curated = DistilledSet.open(str(folder)), curated_of(white)
    assert isinstance(distilled.selected.normalisation, Whitening)
    shown = distilled.selected.display().numpy()
    np.testing.assert_allclose(read_prototypes(folder / "prototypes.fits")[0], shown, rtol=0, atol=1e-7)

    # Initial images are whitened training images; four iterations of Adam with lr 0.03 move a pixel by about 0.12.
    train, seed = curated.load("train"), fold_in(Plan(white).distilled.seed, "distill", 0)
    pixels = curated.normalisation.apply(train.images_NHWC)
    ipc, g = white.distill.images_per_class, generator(seed, "initial")
    first = random_real(pixels, train.labels_N, [ipc] * curated.num_classes, g).images_SCHW
    assert float((distilled.last.images_SCHW - first).abs().max()) < 0.2
    initial = curated.normalisation.invert(first).numpy()
    assert np.corrcoef(shown.ravel(), initial.ravel())[0, 1] > 0.95
    assert not np.allclose(shown, distilled.selected.images_SCHW.permute(0, 2, 3, 1).clamp(0, 1).numpy(), atol=0.1)


def test_experts_are_trained_on_whitened_images(white: Config) -> None:
    plain, whitened = (Plan(config).trajectories for config in (tiny(white.output), white))
    assert content(plain) != content(whitened)
    networks = [json.loads((Path(p.folder.uri) / "layout.json").read_text()) for p in (plain, whitened)]
    assert networks[0] == networks[1]
    starts = [np.load(Path(p.folder.uri) / "expert-0000.npy")[:2] for p in (plain, whitened)]
    np.testing.assert_array_equal(starts[0][0], starts[1][0])
    assert not np.array_equal(starts[0][1], starts[1][1])


def test_plain_and_whitened_sets_are_evaluated_with_their_own_normalisation(white: Config) -> None:
    """Cached results and baseline images of one must not be used for the other."""
    output, cache = white.output, Path(white.output) / "tiny" / FIT_CACHE
    plain_set, white_set = below(tiny(output), "distilled"), below(white, "distilled")
    for config in (tiny(output, *EVALUATED), tiny(output, *EVALUATED, f"distilled={white_set}")):
        before = set(cache.iterdir())
        report = evaluate(Plan(config), SILENT)
        assert {"distilled", "random_real", "dm", "experts", "full_data"} <= set(report.summary)
        new = set(cache.iterdir()) - before
        assert len([path for path in new if path.name.startswith("dm-")]) == 1
        assert len([path for path in new if path.suffix == ".json"]) >= 4
    back = evaluate(Plan(tiny(output, *ZCA, *EVALUATED, f"distilled={plain_set}")), SILENT)
    ours = evaluate(Plan(tiny(output, *EVALUATED)), SILENT)
    assert back.summary["experts"] == ours.summary["experts"], "plain experts must not get whitened galaxies"


def test_population_publishes_its_whitening(white: Config) -> None:
    search = "search={trials: 2, stopping: {kind: pbt, every: 2}, space: {image_step.lr: {low: 0.001, high: 0.1}}}"
    report = tune(Plan(tiny(white.output, *ZCA, search)), SILENT)
    best = DistilledSet.open(f"{report.folder}/best")
    assert best.selected.normalisation.digest == curated_of(white).normalisation.digest
