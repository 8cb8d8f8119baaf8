"""Judge counterfactual pictures, and measure deletion and insertion curves.

A generator renders a galaxy twice from the same noise: with its own answers, and with one answer
changed. The pair is accepted only if a classifier sees the change. The classifier predicts vote
fractions and has seen neither the generator's training galaxies nor the pair:

    sign . (after - before) >= 0.5   for the changed answer,
    |after - before| <= 0.1          for every answer of the questions that should stay.

The other answers of the changed question must change, because their fractions sum to 1. The
questions that are asked after an answer of the changed question may change too. All others count.

Shape suffixes: N pairs, A answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raydistill.galaxies.answers import replace_answers
from raydistill.galaxies.tree import DecisionTree
from raydistill.seeding import fold_in
from raydistill.stages.analyse.science.occlusion import Classifier
from raydistill.statistics.intervals import Interval, wilson

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SMALLEST_CHANGE = 0.5  # of the changed answer
LARGEST_SIDE_EFFECT = 0.1  # on an answer that should stay


@dataclass(frozen=True)
class Verdict:
    """The classifier's verdict on N pairs.

    Attributes
    ----------
    change_N
        float64, change of the changed answer's predicted fraction in the wanted direction.
    side_effect_N
        float64, largest absolute change of an answer that should stay; 0 if there is none.
    worst_N
        int64, that answer; -1 if there is none.
    """

    change_N: Floats
    side_effect_N: Floats
    worst_N: npt.NDArray[np.int64]

    @property
    def accepted(self) -> Bools:
        """Return which pairs are accepted, bool [N]."""
        return (self.change_N >= SMALLEST_CHANGE) & (self.side_effect_N <= LARGEST_SIDE_EFFECT)

    def rate(self) -> Interval:
        """Return the accepted pairs' share and Wilson 95 % interval; NaN without pairs."""
        return wilson(int(self.accepted.sum()), len(self.accepted))


def answers_that_stay(changed: int, tree: DecisionTree) -> Bools:
    """Return which answers an edit should not change, bool [A].

    Parameters
    ----------
    changed
        Number of the changed answer.
    tree
        The questions of the survey.
    """
    question = tree.task_of[tree.answers[changed]]
    free = {question.number}
    for task in tree.tasks:  # a question stands after those that lead to it
        if task.asked_after and any(tree.task_of[stem].number in free for stem in task.asked_after):
            free.add(task.number)
    return np.array([tree.task_of[stem].number not in free for stem in tree.answers])


def with_answer(votes_A: Floats, changed: int, fraction: float, tree: DecisionTree) -> Floats:
    """Return votes in which one answer has a given fraction.

    The other answers of its question share the rest in their own proportion, or equally where they
    have no votes. Questions that can no longer be reached become unknown.

    Parameters
    ----------
    votes_A
        Fractions of a galaxy in the order of `tree.answers`; NaN where unknown.
    changed
        Number of the answer.
    fraction
        Its new fraction, in [0, 1].
    tree
        The questions of the survey.
    """
    columns = np.arange(len(votes_A))[tree.columns_of(tree.task_of[tree.answers[changed]])]
    others = columns[columns != changed]
    votes = np.nan_to_num(votes_A[others])
    share = votes / votes.sum() if votes.sum() > 0 else np.full(len(others), 1 / len(others))
    answers_A = np.full(len(votes_A), np.nan)
    answers_A[changed], answers_A[others] = fraction, (1 - fraction) * share
    return replace_answers(votes_A[None], answers_A, tree)[0].astype(np.float64)


def verdict(before_NA: Floats, after_NA: Floats, changed: int, wanted_N: Floats, stay_A: Bools) -> Verdict:
    """Return the verdict on pairs of pictures.

    Parameters
    ----------
    before_NA, after_NA
        The classifier's fractions of both pictures. NaN: an answer of a pair that is not compared.
    changed
        Number of the changed answer.
    wanted_N
        The wanted change; its sign counts.
    stay_A
        The answers that should stay, see `answers_that_stay`.
    """
    difference_NA = np.asarray(after_NA, np.float64) - before_NA
    change_N = np.sign(wanted_N) * difference_NA[:, changed]
    effects_NA = np.where(stay_A & np.isfinite(difference_NA), np.abs(difference_NA), -1.0)
    largest_N, worst_N = effects_NA.max(axis=1), effects_NA.argmax(axis=1)
    return Verdict(change_N, np.maximum(largest_N, 0), np.where(largest_N >= 0, worst_N, -1))


# Remove or insert patches in an order, and measure the probability curve's area.
#
# Deletion starts from the picture and replaces its patches; insertion starts from the replacement and
# brings them back (RISE, Petsiuk et al. 2018, arXiv:1806.07421, Sect. 4.2). Where an order names the
# patches that decide, the probability of the class falls early under deletion (small area), and rises
# early under insertion (large area). A random order is the baseline: the area alone depends on the
# picture, its replacement, and the network.

PATCHES_AT_ONCE = 16  # to save memory


def patch_means(values_NHW: Tensor, patches_HW: Tensor) -> Tensor:
    """Return the mean of a map in each patch, [N, L]."""
    count_L = patches_HW.flatten().bincount()
    sums_NL = values_NHW.new_zeros(len(values_NHW), len(count_L))
    sums_NL.index_add_(1, patches_HW.flatten(), values_NHW.flatten(1))
    return sums_NL / count_L


def first_to_last(importance_NL: Tensor) -> Tensor:
    """Return the patches by importance, int64 [N, L]: the most important first.

    Equally important ones are in the order of their numbers.
    """
    return importance_NL.argsort(dim=1, descending=True, stable=True)


def random_order(num_pictures: int, num_patches: int, seed: int) -> Tensor:
    """Return a random order of patches for each picture, int64 [N, L]."""
    rng = np.random.default_rng(fold_in(seed, "random order"))
    return torch.from_numpy(rng.permuted(np.tile(np.arange(num_patches), (num_pictures, 1)), axis=1))


def centre_first(num_pictures: int, patches_HW: Tensor) -> Tensor:
    """Return patches by distance from the centre of the frame, int64 [N, L]."""
    height, width = patches_HW.shape
    y_H1, x_1W = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2 for size in (height, width))
    nearness_1HW = -torch.hypot(y_H1[:, None].expand(height, width), x_1W[None, :].expand(height, width))[None]
    return first_to_last(patch_means(nearness_1HW, patches_HW)).expand(num_pictures, -1)


def bright_first(pictures_NHWC: Tensor, patches_HW: Tensor) -> Tensor:
    """Return the order by the mean brightness of a patch, int64 [N, L]."""
    return first_to_last(patch_means(pictures_NHWC.mean(dim=3), patches_HW))


def occlusion_order(
    classify: Classifier, pictures_NHWC: Tensor, replacement_NHWC: Tensor, labels_N: Tensor, patches_HW: Tensor
) -> Tensor:
    """Return patches by the fall of the class's probability when replaced alone.

    This is the occlusion sensitivity of Zeiler & Fergus 2014 (arXiv:1311.2901).

    Parameters
    ----------
    classify
        Returns class probabilities.
    pictures_NHWC, replacement_NHWC
        The pictures, and what replaces their patches.
    labels_N
        int64, the class whose probability counts.
    patches_HW
        Patch of each pixel.

    Returns
    -------
    torch.Tensor
        int64 [N, L].
    """
    probabilities = []
    for patches in torch.arange(int(patches_HW.max()) + 1).split(PATCHES_AT_ONCE):
        alone = [
            torch.where((patches_HW == patch)[None, :, :, None], replacement_NHWC, pictures_NHWC) for patch in patches
        ]
        probabilities.append(_own(classify(torch.cat(alone)), labels_N.repeat(len(patches))).view(len(patches), -1))
    return first_to_last(-torch.cat(probabilities).T)


def replacement_curve(
    classify: Classifier,
    start_NHWC: Tensor,
    end_NHWC: Tensor,
    labels_N: Tensor,
    patches_HW: Tensor,
    order_NL: Tensor,
    num_points: int,
) -> Floats:
    """Return the class probability of pictures whose patches change from start to end.

    Parameters
    ----------
    classify
        Returns class probabilities.
    start_NHWC, end_NHWC
        Deletion: the pictures, and their replacements. Insertion: the reverse.
    labels_N
        int64, the class whose probability counts.
    patches_HW
        Patch of each pixel.
    order_NL
        Patches in the order in which they change.
    num_points
        Steps between both ends.

    Returns
    -------
    numpy.ndarray
        float64 [N, num_points + 1]. At point p, the first p / num_points of the patches have
        changed.
    """
    num_patches = order_NL.shape[1]
    rank_NHW = order_NL.argsort(dim=1)[:, patches_HW]
    steps = []
    for point in range(num_points + 1):
        changed_NHW1 = (rank_NHW < round(point * num_patches / num_points))[..., None]
        steps.append(torch.where(changed_NHW1, end_NHWC, start_NHWC))
    probability = _own(classify(torch.cat(steps)), labels_N.repeat(len(steps)))
    return probability.view(len(steps), -1).T.double().numpy()


def area(curve_NP: Floats) -> Floats:
    """Return the area under each curve, [N], by the trapezoidal rule over length 1."""
    return np.trapezoid(curve_NP, dx=1 / (curve_NP.shape[1] - 1), axis=1)


def _own(probability_NK: Tensor, labels_N: Tensor) -> Tensor:
    return probability_NK.gather(1, labels_N[:, None])[:, 0]
