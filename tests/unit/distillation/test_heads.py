"""Heads in closed form: against scikit-learn, gradients, and what they learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch.nn.functional import cross_entropy

from raydistill.distillation.heads import HeadDistiller
from raydistill.distillation.options import SGD, Adam, ImageComponents, ImagePyramid, RidgeHead
from raydistill.distillation.outcome import RealImages
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.space import Components
from raydistill.errors import DivergenceError
from raydistill.learning.augment import Augmentation
from raydistill.learning.augmenting import orbit
from raydistill.learning.encoders import Encoder
from raydistill.learning.heads import balanced_weights, ridge_head
from raydistill.learning.networks import build_network, embedding, initial_parameters
from raydistill.learning.normalise import Normalisation, one_hot
from raydistill.seeding import generator as seeded
from tests import zoo

PSI = embedding(build_network(zoo.NETWORKS["no norm"], zoo.CLASSES, zoo.SIZE))
IMAGES, LABELS = zoo.stripes(60)
REAL = RealImages(IMAGES.double(), one_hot(LABELS, zoo.CLASSES).double())
RECIPE = Recipe(
    iterations=30, image_step=Adam(lr=0.05), augmentation=Augmentation(("mirror",)), objective=RidgeHead(per_class=20, shrinkage=0)
)  # fmt: skip


def encoder(seed: int = 0, dtype: torch.dtype = torch.float64) -> Encoder:
    return Encoder.fit(PSI, initial_parameters(PSI, seed).to(dtype), REAL.images_NCHW.to(dtype))


def distiller(recipe: Recipe = RECIPE, encoders: int = 1, space: Components | None = None) -> HeadDistiller:
    start = zoo.normal(5, zoo.CLASSES, *REAL.images_NCHW.shape[1:])  # noise, which teaches nothing
    made = [encoder(seed) for seed in range(encoders)]
    return HeadDistiller(recipe, made, start, torch.eye(zoo.CLASSES).double(), REAL, 0, space)


@pytest.mark.parametrize("shape", [(12, 30), (40, 7)])
@pytest.mark.parametrize("weighted", [False, True])
def test_head_is_that_of_scikit_learn(shape: tuple[int, int], weighted: bool) -> None:
    features, targets = zoo.normal(0, *shape), zoo.normal(1, shape[0], 3)
    weights = zoo.normal(2, shape[0]).abs() + 0.1 if weighted else None
    expected = Ridge(alpha=0.3 * shape[1], fit_intercept=False).fit(
        features.numpy(), targets.numpy(), sample_weight=None if weights is None else weights.numpy()
    )
    np.testing.assert_allclose(ridge_head(features, targets, 0.3, weights).numpy(), expected.coef_.T, atol=1e-10)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_head_can_be_differentiated_in_both_arguments(shape: tuple[int, int]) -> None:
    features, targets = zoo.normal(0, *shape).requires_grad_(), zoo.normal(1, shape[0], 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda f, t: ridge_head(f, t, 0.1), (features, targets))


def test_balanced_weights_give_every_class_the_same_sum() -> None:
    labels = torch.tensor([0, 0, 0, 2])
    assert balanced_weights(labels, 4).tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])


def test_features_are_standardised() -> None:
    features = encoder()(REAL.images_NCHW)
    torch.testing.assert_close(features.mean(dim=0), torch.zeros_like(features[0]), atol=1e-9, rtol=0)
    spread = features.std(dim=0)
    torch.testing.assert_close(spread[spread > 0.5], torch.ones_like(spread[spread > 0.5]))


@pytest.mark.parametrize(
    "space", [None, Components.fit(REAL.images_NCHW, 20, Normalisation((0.5,) * 3, (0.2,) * 3), 0)]
)
@pytest.mark.parametrize("matching", ["outcome", "gradient"])
def test_gradient_is_that_of_finite_differences(space: Components | None, matching: Any) -> None:
    recipe = replace(RECIPE, objective=RidgeHead(matching=matching, per_class=5, shrinkage=0.01))
    run = distiller(recipe if space is None else replace(recipe, space=ImageComponents()), encoders=2, space=space)
    result = run.measure()
    index, version = torch.arange(10), torch.zeros(10, dtype=torch.long)
    stored, scales = run.stored.clone().requires_grad_(), run._log_scales_E.clone()
    (exact,) = torch.autograd.grad(run.loss(stored, scales, index, version), stored)
    direction, h = zoo.normal(7, *stored.shape), 1e-5
    ends = [run.loss(stored.detach() + sign * h * direction, scales, index, version) for sign in (1, -1)]
    assert float((exact * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=1e-5)
    assert result.d_stored.shape == run.stored.shape


def accuracy(run: HeadDistiller, of: Encoder) -> float:
    (head,) = HeadDistiller(RECIPE, [of], run.images, run.targets(), REAL, 0).heads(run.images)
    return float(((of(REAL.images_NCHW) @ head).argmax(dim=1) == LABELS).double().mean())


def test_images_learn_what_the_head_of_all_real_images_knows() -> None:
    run = distiller()
    before = accuracy(run, encoder())
    losses = [record.loss for _ in range(30) for record in run.step()]
    assert run.finished
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert before < 0.7
    assert accuracy(run, encoder()) > 0.9


def test_gradient_matching_has_the_distance_of_the_gradients_of_a_random_head() -> None:
    recipe = replace(RECIPE, objective=RidgeHead(matching="gradient", shrinkage=0))
    run, of = distiller(recipe), encoder()
    index, version = torch.arange(12), torch.zeros(12, dtype=torch.long)
    head = torch.randn(len(of.mean_F), zoo.CLASSES, generator=seeded(0, 0, "head")).double() / len(of.mean_F) ** 0.5
    head.requires_grad_()
    seen, targets = orbit(run.images, "mirror"), run.targets()
    targets = targets.repeat_interleave(len(seen) // len(targets), dim=0)
    pairs = (
        (orbit(REAL.images_NCHW[:12], "mirror")[:: len(seen) // len(run.images)], REAL.targets_NK[:12]),
        (seen, targets),
    )
    theirs, ours = (torch.autograd.grad(cross_entropy(of(x) @ head, y), head)[0].flatten() for x, y in pairs)
    expected = 1 - torch.dot(theirs, ours) / (theirs.norm() * ours.norm())
    torch.testing.assert_close(run.loss(run.stored, run._log_scales_E, index, version), expected.detach())


def test_gradient_matching_teaches_a_head() -> None:
    run = distiller(replace(RECIPE, objective=RidgeHead(matching="gradient", per_class=20, shrinkage=0)))
    losses = [record.loss for _ in range(30) for record in run.step()]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert accuracy(run, encoder()) > 0.8


@pytest.mark.parametrize("matching", ["outcome", "gradient"])
@pytest.mark.parametrize("encoders", [1, 2])
def test_resumed_run_continues_bit_for_bit(encoders: int, matching: Any) -> None:
    recipe = replace(RECIPE, ema=0.9, objective=RidgeHead(matching=matching, per_class=20, shrinkage=0))
    whole, first, second = (distiller(recipe, encoders) for _ in range(3))
    for _ in range(6):
        whole.step()
    for _ in range(2):
        first.step()
    second.load_state_dict(*first.state_dict())
    for _ in range(4):
        second.step()
    assert torch.equal(whole.published_images, second.published_images)
    assert whole.iteration == second.iteration == 6


def test_the_symmetries_are_those_of_the_augmentation() -> None:
    assert [Augmentation(names).symmetries for names in (("dihedral",), ("color", "mirror"), ("flip",))] == [
        "dihedral", "mirror", "none",
    ]  # fmt: skip
    run, seen = distiller(), orbit(distiller().images, "mirror")
    (head,) = run.heads(run.images)
    scores = encoder()(seen) @ head
    assert scores.shape == (4 * zoo.CLASSES, zoo.CLASSES)


def test_more_real_images_than_fit_in_memory_are_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raydistill.distillation.heads.MOST_FEATURES", 4 * 20 * len(encoder().mean_F))
    run = distiller()
    assert len(run._kept_N) == 20
    assert run.step()[0].loss > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": "soft"}, "ridge needs labels: hard"),
        ({"trajectories_per_step": 2}, "ridge needs trajectories_per_step: 1"),
        ({"image_step": SGD(lr="auto")}, "ridge needs a number"),
    ],
)
def test_recipes_that_a_head_cannot_use_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **changes)


def test_a_space_of_the_recipe_must_be_given() -> None:
    with pytest.raises(ValueError, match="give the space, `image_space` of real images"):
        distiller(replace(RECIPE, space=ImagePyramid()))


def test_a_head_needs_its_objective_and_an_encoder() -> None:
    with pytest.raises(ValueError, match="give a RidgeHead"):
        distiller(Recipe())
    with pytest.raises(ValueError, match="at least one encoder"):
        distiller(encoders=0)


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    run = distiller()
    run.stored[:] = torch.nan
    with pytest.raises(DivergenceError):
        run.step()


def test_random_augmentations_of_an_iteration_are_those_of_the_recipe() -> None:
    augmentation = Augmentation(("dihedral", "crop"))
    objective = RidgeHead(matching="gradient", draws=3, per_class=20, shrinkage=0)
    run = distiller(replace(RECIPE, objective=objective, augmentation=augmentation))
    first = run.measure()
    assert torch.equal(first.d_stored, run.measure().d_stored), "the same iteration draws the same"
    run.step()
    assert not torch.equal(first.loss, run.measure().loss)
    with pytest.raises(ValueError, match="draws goes with matching: gradient"):
        RidgeHead(draws=3)
