"""Self-supervised training: the losses, the views, and what an encoder learns."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from raydistill.learning.architectures import PooledConvNet
from raydistill.learning.contrast import (
    ContrastiveModel,
    dino,
    draw_views,
    effective_rank,
    init_training,
    nt_xent,
    shard_gradient,
    show,
    vicreg,
)
from raydistill.learning.heads import ridge_head
from raydistill.learning.normalise import Normalisation, one_hot
from raydistill.learning.options import ContrastiveTraining, SkyViews
from raydistill.seeding import generator
from tests import zoo

SIZE = 16
TRAINING = ContrastiveTraining(steps=60, batch_size=32, shards=2, warmup=5, lr=3e-3, ema_decay=0.9, projection=8)
NORMALISATION = Normalisation((0.1, 0.1, 0.1), (0.2, 0.2, 0.2))
LOSSES = ("simclr", "vicreg", "dino")
STILL = SkyViews(zoom=(1.0, 1.0), gain=0, blur=0, noise=0, neighbours=0)


def model(seed: int = 0) -> ContrastiveModel:
    return ContrastiveModel(PooledConvNet(widths=(8, 16), groups=4), SIZE, 8, NORMALISATION, seed)


def galaxies(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return uint8 pictures [N, H, W, 3] of round and flat blobs, and their kinds."""
    g = generator(seed, "galaxies")
    kinds, angles = torch.arange(count) % 2, math.pi * torch.rand(count, generator=g)
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
    along = angles.cos()[:, None, None] * x + angles.sin()[:, None, None] * y
    across = angles.cos()[:, None, None] * y - angles.sin()[:, None, None] * x
    flat = torch.where(kinds == 1, 4.0, 1.0)[:, None, None]
    light = torch.exp(-6 * (along**2 + (flat * across) ** 2))
    noisy = (light + 0.03 * torch.randn(light.shape, generator=g)).clamp(0, 1)
    return (noisy * 255).byte()[..., None].expand(-1, -1, -1, 3).contiguous(), kinds


def test_nt_xent_is_the_sum_over_pairs_of_the_paper() -> None:
    first, second = zoo.normal(0, 4, 5), zoo.normal(1, 4, 5)
    z = torch.nn.functional.normalize(torch.cat([first, second]), dim=1)
    losses = []
    for i in range(8):
        others = [k for k in range(8) if k != i]
        scores = torch.stack([z[i] @ z[k] / 0.2 for k in others])
        losses.append(torch.logsumexp(scores, 0) - z[i] @ z[(i + 4) % 8] / 0.2)
    torch.testing.assert_close(nt_xent(first, second, 0.2), torch.stack(losses).mean())


def test_vicreg_is_that_of_the_paper() -> None:
    first, second = zoo.normal(0, 6, 3), 0.1 * zoo.normal(1, 6, 3)
    variance = sum(torch.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean() for z in (first, second))
    covariance = torch.zeros(())
    for z in (first, second):
        matrix = torch.cov(z.T)
        covariance = covariance + sum(matrix[i, j] ** 2 for i in range(3) for j in range(3) if i != j) / 3
    expected = 25 * (first - second).square().mean() + 25 * variance / 2 + covariance
    torch.testing.assert_close(vicreg(first, second), expected)


def test_a_perfect_encoder_has_a_smaller_loss_than_a_collapsed_one() -> None:
    perfect, collapsed = torch.eye(8), torch.ones(8, 8)
    for loss in (lambda a, b: nt_xent(a, b, 0.2), lambda a, b: vicreg(4 * a, 4 * b)):
        assert loss(perfect, perfect) < loss(collapsed, collapsed)


def test_still_views_are_rotations_and_mirrors() -> None:
    pictures = torch.zeros(64, 3, SIZE, SIZE)
    pictures[:, :, 4:12, 4:12] = 1
    seen = show(pictures, draw_views(STILL, 64, generator(0)))
    torch.testing.assert_close(seen.sum(dim=(1, 2, 3)), pictures.sum(dim=(1, 2, 3)), rtol=0.05, atol=0)
    lopsided = torch.rand(1, 1, 8, 1, generator=generator(1)).expand(64, 3, 8, SIZE).repeat(1, 1, 2, 1)
    views = show(lopsided, draw_views(STILL, 64, generator(2)))
    assert len({round(float(view.std()), 4) for view in views}) > 20, "views differ"


def test_views_depend_on_their_seed_alone_and_change_what_they_may() -> None:
    pictures = torch.rand(8, 3, SIZE, SIZE, generator=generator(0))
    first, again, other = (show(pictures, draw_views(SkyViews(), 8, generator(seed))) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    constant = torch.full((200, 3, SIZE, SIZE), 0.5)
    gains = show(constant, draw_views(replace(STILL, gain=0.2), 200, generator(3))).mean(dim=(2, 3)) / 0.5
    assert 0.8 <= float(gains.min()) < 0.83
    assert 1.17 < float(gains.max()) <= 1.2 + 1e-6
    noise = show(constant, draw_views(replace(STILL, noise=0.1), 200, generator(4))).std(dim=(1, 2, 3))
    assert 0.08 < float(noise.max()) < 0.12


def test_a_neighbour_is_another_picture_at_the_edge() -> None:
    pictures = torch.zeros(40, 3, SIZE, SIZE)
    pictures[:, :, 7:9, 7:9] = torch.linspace(0.5, 1, 40)[:, None, None, None]
    seen = show(pictures, draw_views(replace(STILL, neighbours=1.0), 40, generator(0)))
    assert float(seen.sum()) > 1.5 * float(pictures.sum())


def test_effective_rank_counts_independent_features() -> None:
    isotropic = torch.eye(50, dtype=torch.float64).repeat(4, 1)[:, :10] - 0.02
    assert effective_rank(isotropic) == pytest.approx(10, rel=0.05)
    line = zoo.normal(0, 100, 1) @ zoo.normal(1, 1, 10)
    assert effective_rank(line) == pytest.approx(1, abs=1e-6)


def test_dino_is_the_cross_entropy_with_targets_that_use_all_outputs_equally() -> None:
    student, teacher = zoo.normal(0, 12, 4), zoo.normal(1, 12, 4)
    q = torch.exp(torch.nn.functional.normalize(teacher, dim=1) / 0.04)
    for _ in range(200):  # converged; three iterations come close
        q = q / q.sum(dim=0)
        q = q / q.sum(dim=1, keepdim=True)
    torch.testing.assert_close(q.sum(dim=0), torch.full((4,), 3.0, dtype=torch.float64))
    scores = torch.log_softmax(torch.nn.functional.normalize(student, dim=1) / 0.1, dim=1)
    torch.testing.assert_close(dino(student, teacher), -(q * scores).sum(dim=1).mean(), rtol=0.1, atol=0)
    same = zoo.normal(2, 1, 4).expand(12, 4)  # a collapsed teacher gives targets without information
    flat = -torch.log_softmax(torch.nn.functional.normalize(student, dim=1) / 0.1, dim=1).mean()
    torch.testing.assert_close(dino(student, same), flat)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_of_a_shard_depends_on_seed_step_and_shard_alone(loss: str) -> None:
    images, _ = galaxies(16)

    def gradient(seed: int, step: int, shard: int) -> Tensor:
        state = init_training(model(), TRAINING)
        state.step = step
        return shard_gradient(state, images, replace(TRAINING, loss=loss), seed, shard)[0]

    first = gradient(0, 3, 1)
    assert torch.equal(first, gradient(0, 3, 1))
    for draw in ((1, 3, 1), (0, 4, 1), (0, 3, 0)):
        assert not torch.equal(first, gradient(*draw))


@pytest.mark.parametrize("loss", LOSSES)
def test_an_encoder_learns_the_kind_of_a_galaxy_without_labels(loss: str) -> None:
    images, _ = galaxies(320)
    training = replace(TRAINING, loss=loss)
    state, losses = init_training(model(), training), []
    before = head_accuracy(model())
    for step in range(training.steps):
        batch = torch.randperm(len(images), generator=generator(step))[: training.batch_size].chunk(training.shards)
        results = [shard_gradient(state, images[rows], training, 0, n) for n, rows in enumerate(batch)]
        state.apply([gradient for gradient, _ in results], training.lr_at(step), training.max_norm)
        losses.append(float(torch.stack([value for _, value in results]).mean()))
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert head_accuracy(state.averaged()) >= max(0.9, before - 0.02)


@torch.no_grad()
def head_accuracy(encoder: ContrastiveModel) -> float:
    """Return the accuracy of a head that was trained on few labels."""
    features = []
    for seed, count in ((1, 20), (2, 200)):
        images, kinds = galaxies(count, seed)
        features.append((encoder.features(images.permute(0, 3, 1, 2).float() / 255), kinds))
    (train, labels), (test, truth) = features
    mean, deviation = train.mean(dim=0), train.std(dim=0).clamp_min(1e-6)
    head = ridge_head((train - mean) / deviation, one_hot(labels, 2) - 0.5, 1.0)
    return float((((test - mean) / deviation @ head).argmax(dim=1) == truth).float().mean())


def test_options_that_make_no_sense_are_rejected() -> None:
    with pytest.raises(ValueError, match="zoom must be two numbers"):
        SkyViews(zoom=(0.9, 0.5))
    with pytest.raises(ValueError, match="at least 2"):
        ContrastiveTraining(batch_size=2, shards=2)
    with pytest.raises(ValueError, match="multiples of groups"):
        PooledConvNet(widths=(8, 12), groups=8)
