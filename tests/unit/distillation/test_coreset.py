"""Coresets hold images of their class, and are the same every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from raydistill.distillation import coreset, difficulty
from raydistill.seeding import generator
from tests import zoo

K = 3
IMAGES, LABELS = zoo.stripes(31, size=4)
Choose = Callable[[Tensor, Tensor, int], Tensor]

CHOOSERS: dict[str, Choose] = {
    "random_real": lambda images, labels, ipc: coreset.random_real(images, labels, [ipc] * K, generator(0)).images_SCHW,
    "correct": lambda images, labels, ipc: correct(images, labels, ipc).images_SCHW,
    "k_center": lambda images, labels, ipc: coreset.k_center(images, labels, [ipc] * K).images_SCHW,
    "herding": lambda images, labels, ipc: coreset.herding(images, labels, [ipc] * K).images_SCHW,
}
REAL = pytest.mark.parametrize("choose", CHOOSERS.values(), ids=CHOOSERS)


def corner(images: Tensor, labels: Tensor) -> Tensor:
    """Return the first pixel of each image, as a margin."""
    return images[:, 0, 0, 0]


def correct(images: Tensor, labels: Tensor, ipc: int, seed: int = 0) -> coreset.Coreset:
    return coreset.correctly_classified(images, labels, [ipc] * K, generator(seed), corner)


def rows_of(chosen: Tensor) -> list[int]:
    """Return the row in IMAGES of each chosen image."""
    return [int(IMAGES.eq(image).flatten(1).all(dim=1).nonzero()) for image in chosen]


@REAL
@pytest.mark.parametrize("ipc", [1, 4, 9])
def test_images_come_from_their_class_without_repetition(choose: Choose, ipc: int) -> None:
    rows = rows_of(choose(IMAGES, LABELS, ipc))
    assert LABELS[rows].tolist() == [k for k in range(K) for _ in range(ipc)]
    assert len(set(rows)) == K * ipc


@REAL
def test_choices_are_deterministic(choose: Choose) -> None:
    assert torch.equal(choose(IMAGES, LABELS, 4), choose(IMAGES, LABELS, 4))


@REAL
def test_class_with_too_few_images_repeats_them(choose: Choose) -> None:
    few = torch.tensor([0, 3, 1, 4, 2, 5])  # two of each class
    chosen = rows_of(choose(IMAGES[few], LABELS[few], 5))
    for k in range(K):
        of_class = chosen[5 * k : 5 * k + 5]
        assert set(of_class) == {k, k + 3}
        assert LABELS[of_class].tolist() == [k] * 5


UNEQUAL: dict[str, Callable[[list[int]], coreset.Coreset]] = {
    "random_real": lambda counts: coreset.random_real(IMAGES, LABELS, counts, generator(0)),
    "correct": lambda counts: coreset.correctly_classified(IMAGES, LABELS, counts, generator(0), corner),
    "class_mean": lambda counts: coreset.class_mean(IMAGES, LABELS, counts, generator(0)),
    "cluster_mean": lambda counts: coreset.cluster_mean(IMAGES, LABELS, counts, generator(0)),
    "k_center": lambda counts: coreset.k_center(IMAGES, LABELS, counts),
    "herding": lambda counts: coreset.herding(IMAGES, LABELS, counts),
    "noise": lambda counts: coreset.noise(IMAGES, LABELS, counts, generator(0)),
    "easiest": lambda counts: difficulty.easiest(IMAGES, LABELS, counts, IMAGES[:, 0, 0, 0], generator(0)),
    "moderate": lambda counts: difficulty.moderate(IMAGES, LABELS, counts, IMAGES.flatten(1)),
}


@pytest.mark.parametrize("choose", UNEQUAL.values(), ids=UNEQUAL)
def test_classes_may_have_different_numbers_of_images(choose: Callable[[list[int]], coreset.Coreset]) -> None:
    counts = [3, 1, 4]
    chosen = choose(counts)
    assert len(chosen.images_SCHW) == len(chosen.origins) == 8
    for label, origins in zip(torch.arange(K).repeat_interleave(torch.tensor(counts)), chosen.origins, strict=True):
        assert (LABELS[origins] == label).all()


@REAL
def test_class_without_images_is_rejected(choose: Choose) -> None:
    kept = LABELS != 1
    with pytest.raises(ValueError, match="class 1 has no training image"):
        choose(IMAGES[kept], LABELS[kept], 1)


@pytest.mark.parametrize("choose", [coreset.k_center, coreset.herding])
def test_first_image_is_nearest_to_the_class_mean(choose: Any) -> None:
    rows = rows_of(choose(IMAGES, LABELS, [1] * K).images_SCHW)
    for k, row in enumerate(rows):
        of_class = IMAGES[LABELS.eq(k)]
        distances = (IMAGES - of_class.mean(dim=0)).flatten(1).norm(dim=1)
        assert distances[row] == distances[LABELS.eq(k)].min()


def test_k_center_repeats_all_points_alike() -> None:
    points = torch.tensor([0.0, 1, 5]).reshape(3, 1, 1, 1).expand(-1, 1, 2, 2)
    chosen = coreset.k_center(points, torch.zeros(3, dtype=torch.long), [7]).images_SCHW[:, 0, 0, 0]
    assert chosen.tolist() == [1, 5, 0, 1, 5, 0, 1]


def test_k_center_takes_the_farthest_point_of_a_line() -> None:
    line = torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 20]).view(-1, 1, 1, 1)
    labels = torch.zeros(10, dtype=torch.long)
    # mean 5.6: nearest 6; farthest from it 20; then 0; then 3 (at 3 from both 0 and 6)
    assert coreset.k_center(line, labels, [4]).images_SCHW.flatten().tolist() == [6, 20, 0, 3]


def test_herding_follows_the_mean_better_than_chance() -> None:
    images, labels = torch.randn(200, 1, 4, 4, generator=generator(1)), torch.zeros(200, dtype=torch.long)
    target = images.mean(dim=0)
    herded = (coreset.herding(images, labels, [10]).images_SCHW.mean(dim=0) - target).norm()
    draws = [coreset.random_real(images, labels, [10], generator(s)).images_SCHW for s in range(20)]
    drawn = [float((draw.mean(dim=0) - target).norm()) for draw in draws]
    assert herded < 0.5 * min(drawn)


def test_herding_in_features_ignores_pixels() -> None:
    images, labels = torch.arange(12.0).view(6, 1, 1, 2), torch.tensor([0, 0, 0, 1, 1, 1])
    features = torch.tensor([[0.0], [1.0], [5.0], [3.0], [-3.0], [0.1]])
    chosen = coreset.herding(images, labels, [1, 1], features)
    assert [int(rows) for rows in chosen.origins] == [1, 5]
    torch.testing.assert_close(chosen.images_SCHW, images[[1, 5]])


def test_herding_equals_a_calculation_by_hand() -> None:
    line = torch.tensor([-5.0, 0.4, 1.0, 4.0]).view(-1, 1, 1, 1)  # mean 0.1
    labels = torch.zeros(4, dtype=torch.long)
    # 0.4; then (0.4 + x)/2 nearest 0.1: 1.0 gives 0.7, 4 gives 2.2, -5 gives -2.3; then (1.4 + x)/3: -5 gives -1.2, 4 gives 1.8
    assert coreset.herding(line, labels, [4]).images_SCHW.flatten().tolist() == pytest.approx([0.4, 1.0, -5.0, 4.0])


def test_class_mean_is_the_mean() -> None:
    means = coreset.class_mean(IMAGES, LABELS, [1] * K, generator(0)).images_SCHW
    for k in range(K):
        torch.testing.assert_close(means[k], IMAGES[LABELS.eq(k)].mean(dim=0))


def test_several_class_means_are_of_disjoint_parts_of_the_class() -> None:
    images, labels = zoo.stripes(36, size=4)  # 12 of each class
    parts = coreset.class_mean(images, labels, [4] * K, generator(0)).images_SCHW.view(K, 4, 3, 4, 4)
    for k in range(K):
        torch.testing.assert_close(parts[k].mean(dim=0), images[labels == k].mean(dim=0))
        assert torch.cdist(parts[k].flatten(1), parts[k].flatten(1)).fill_diagonal_(9).min() > 0


def test_cluster_means_are_those_of_the_clusters_and_never_one_image() -> None:
    points = torch.tensor([0.0, 1, 2, 10, 11, 12, 13, 14, 40]).view(-1, 1, 1, 1)
    found = coreset.cluster_mean(points, torch.zeros(9, dtype=torch.long), [3], generator(0))
    rows = sorted(sorted(origins.tolist()) for origins in found.origins)
    assert rows == [[0, 1, 2], [3, 4, 5, 6, 7], [6, 7, 8]]  # 40 is alone, and takes its neighbours
    assert sorted(found.images_SCHW.flatten().tolist()) == pytest.approx([1, 12, 67 / 3])


def test_repeated_means_of_a_small_class_differ_by_noise() -> None:
    images = torch.ones(2, 3, 4, 4)
    means = coreset.class_mean(images, torch.zeros(2, dtype=torch.long), [5], generator(0), jitter=0.01).images_SCHW
    assert torch.equal(means[:2], images)
    assert len(means.flatten(1).unique(dim=0)) == 4
    assert (means - 1).abs().max() < 0.06


def test_random_draws_follow_the_generator() -> None:
    draws = [coreset.random_real(IMAGES, LABELS, [2] * K, generator(seed)).images_SCHW for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_noise_is_standard_normal_in_the_shape_of_the_images() -> None:
    noise = coreset.noise(torch.zeros(K, 3, 32, 32), torch.arange(K), [4] * K, generator(0)).images_SCHW
    assert noise.shape == (12, 3, 32, 32)
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02


@pytest.mark.parametrize(
    "chosen",
    [
        coreset.random_real(IMAGES, LABELS, [4] * K, generator(0)),
        coreset.class_mean(IMAGES, LABELS, [4] * K, generator(0)),
        coreset.k_center(IMAGES, LABELS, [4] * K),
        coreset.herding(IMAGES, LABELS, [4] * K),
        correct(IMAGES, LABELS, 4),
    ],
)
def test_image_is_the_mean_of_its_origins(chosen: coreset.Coreset) -> None:
    assert torch.equal(chosen.mean(IMAGES), chosen.images_SCHW)


def test_origins_of_noise_are_the_whole_class() -> None:
    chosen = coreset.noise(IMAGES, LABELS, [2] * K, generator(0))
    classes = [IMAGES[k == LABELS].mean(dim=0) for k in range(K)]
    assert torch.equal(chosen.mean(IMAGES), torch.stack(classes).repeat_interleave(2, dim=0))


def test_correct_images_are_random_and_no_more_than_needed_are_classified() -> None:
    images, labels = torch.randn(2000, 1, 2, 2, generator=generator(5)), torch.zeros(2000, dtype=torch.long)
    asked = 0

    def counted(images: Tensor, labels: Tensor) -> Tensor:
        nonlocal asked
        asked += len(images)
        return images[:, 0, 0, 0] - 2  # one in 44 is right

    def draw(ipc: int, seed: int) -> Tensor:
        return coreset.correctly_classified(images, labels, [ipc], generator(seed), counted).images_SCHW

    chosen = draw(20, 0)
    assert coreset.MARGIN_BATCH < asked < 2000
    assert (chosen[:, 0, 0, 0] > 2).all()
    assert len(chosen.flatten(1).unique(dim=0)) == 20
    assert torch.equal(draw(20, 0), chosen)
    assert not torch.equal(draw(20, 1), chosen)


def test_largest_margins_follow_if_too_few_are_correct() -> None:
    line = torch.tensor([-3.0, 2, -0.5, 0, 1, -9]).view(-1, 1, 1, 1)
    chosen = coreset.correctly_classified(line, torch.zeros(6, dtype=torch.long), [5], generator(0), corner)
    pixels = chosen.images_SCHW.flatten().tolist()
    assert set(pixels[:2]) == {1, 2}
    assert pixels[2:] == [0, -0.5, -3]
