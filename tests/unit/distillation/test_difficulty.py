"""Coresets chosen by networks agree with calculations by hand."""

from __future__ import annotations

import torch
from torch import Tensor

from raydistill.distillation import difficulty
from raydistill.distillation.coreset import Coreset
from raydistill.learning.networks import Network, initial_parameters
from raydistill.seeding import generator
from tests import zoo

K = zoo.CLASSES
IMAGES, LABELS = zoo.stripes(36)


def brightness() -> tuple[Network, Tensor]:
    """Return a network whose logits are the scaled means of the channels."""
    network = Network.of(lambda: torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), Scale()))
    return network, torch.full_like(initial_parameters(network, 0), 1.0)


class Scale(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def rows_of(chosen: Coreset) -> list[list[int]]:
    """Return the rows of each class."""
    return torch.cat(chosen.origins).view(K, -1).tolist()


def test_el2n_is_the_mean_norm_of_the_errors() -> None:
    network, theta_P = brightness()
    scores = difficulty.el2n_scores(network, [theta_P, 2 * theta_P], IMAGES, LABELS)
    means = IMAGES.mean(dim=(2, 3))
    errors = [(factor * means).softmax(dim=1) - torch.nn.functional.one_hot(LABELS, K) for factor in (1, 2)]
    expected = (errors[0].norm(dim=1) + errors[1].norm(dim=1)) / 2
    torch.testing.assert_close(scores, expected)


def test_forgetting_counts_losses_and_never_learned_images() -> None:
    network, theta_P = brightness()
    flat = torch.zeros(3, 3, 4, 4)
    flat[0, 0], flat[1, 1], flat[2, 1] = 1, 1, 1
    labels = torch.tensor([0, 1, 0])  # the last one is never recognised as 0
    forgotten = theta_P * torch.tensor([-1.0, 1, 1])  # now the first is not recognised
    events = difficulty.forgetting_events(network, [theta_P, forgotten, theta_P, forgotten], flat, labels)
    assert events.tolist() == [2, 0, 4]


def test_easiest_takes_the_smallest_and_breaks_ties_at_random() -> None:
    values = torch.arange(36, 0, -1.0)
    chosen = difficulty.easiest(IMAGES, LABELS, [2] * K, values, generator(0))
    assert rows_of(chosen) == [[33, 30], [34, 31], [35, 32]]
    assert torch.equal(chosen.images_SCHW, IMAGES[torch.cat(chosen.origins)])
    ties = [difficulty.easiest(IMAGES, LABELS, [2] * K, torch.zeros(36), generator(seed)) for seed in (0, 0, 1)]
    assert rows_of(ties[0]) == rows_of(ties[1]) != rows_of(ties[2])


def test_easiest_leaves_out_a_share_that_is_easier_still() -> None:
    values = torch.arange(36.0)
    chosen = difficulty.easiest(IMAGES, LABELS, [2] * K, values, generator(0), after=0.5)
    assert rows_of(chosen) == [[18, 21], [19, 22], [20, 23]]
    last = difficulty.easiest(IMAGES, LABELS, [2] * K, values, generator(0), after=1.0)
    assert rows_of(last) == [[30, 33], [31, 34], [32, 35]]


def test_the_window_that_teaches_most_is_kept() -> None:
    def taught(chosen: Coreset, labels_S: Tensor) -> float:
        assert labels_S.tolist() == [0, 0, 1, 1, 2, 2]
        return -abs(float(torch.cat(chosen.origins).float().mean()) - 20)

    chosen = difficulty.window_for_budget(IMAGES, LABELS, [2] * K, torch.arange(36.0), generator(0), taught)
    assert rows_of(chosen) == [[18, 21], [19, 22], [20, 23]]


def test_moderate_takes_the_median_distance() -> None:
    labels = torch.zeros(5, dtype=torch.int64)
    features = torch.tensor([[0.0], [1], [2], [3], [10]])  # distances to the mean 3.2: 3.2 2.2 1.2 .2 6.8
    chosen = difficulty.moderate(IMAGES[:5], labels, [3], features)
    assert torch.cat(chosen.origins).tolist() == [1, 0, 2]


def test_rded_takes_the_surest_crop_of_the_surest_images() -> None:
    network, theta_P = brightness()
    chosen = difficulty.rded(IMAGES, LABELS, [3] * K, generator(0), network, [theta_P])
    assert chosen.images_SCHW.shape == (K * 3, *IMAGES.shape[1:])
    labels = torch.arange(K).repeat_interleave(3)
    assert torch.equal(LABELS[torch.cat(chosen.origins)], labels)
    assert len(set(torch.cat(chosen.origins).tolist())) == K * 3
    side = IMAGES.shape[-1]
    for label in range(K):
        loss_3 = difficulty.realism_loss(network, [theta_P], chosen.images_SCHW[labels == label], label, side)
        whole = difficulty.realism_loss(network, [theta_P], IMAGES[label == LABELS], label, side)
        assert (loss_3.diff() >= 0).all()
        assert loss_3.mean() < whole.sort().values[:3].mean()  # five crops of twelve images beat the images


def test_large_images_are_made_of_four_crops() -> None:
    network, theta_P = brightness()
    images = torch.nn.functional.interpolate(IMAGES, size=(66, 66))
    chosen = difficulty.rded(images, LABELS, [2] * K, generator(0), network, [theta_P])
    assert chosen.images_SCHW.shape == (K * 2, 3, 66, 66)
    assert torch.stack(chosen.origins).shape == (K * 2, 4)
    assert (LABELS[torch.stack(chosen.origins)] == torch.arange(K).repeat_interleave(2)[:, None]).all()


def test_patches_are_placed_row_by_row() -> None:
    patches = torch.arange(8.0)[:, None, None, None].expand(8, 1, 2, 2)
    images = difficulty.stitched(patches, 2)
    assert images[0, 0].tolist() == [[0, 0, 2, 2], [0, 0, 2, 2], [4, 4, 6, 6], [4, 4, 6, 6]]
    assert images[1, 0, ::2, ::2].tolist() == [[1, 3], [5, 7]]


def test_border_of_a_small_crop_is_the_mean_colour() -> None:
    network, theta_P = brightness()
    crop = torch.ones(1, 3, 2, 2)
    crop[:, 0] = 3
    padded = torch.nn.functional.pad(crop, (1, 1, 1, 1))
    loss = difficulty.realism_loss(network, [theta_P], crop, 0, 4)
    torch.testing.assert_close(loss, -padded.mean(dim=(2, 3)).log_softmax(dim=1)[:, 0])
