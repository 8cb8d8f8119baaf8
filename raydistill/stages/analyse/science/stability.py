"""Compare repeated distillations: does a prototype show the same again?

A prototype of unaligned galaxies has no preferred orientation. So pictures are compared in the best
of the eight poses of the square: quarter turns and mirror images. The best of eight is always at
least as similar as the first, so classes that differ are compared in their best pose as well.

All prototypes share a bright centre. The *contrast* of a prototype is its difference from the mean
over the prototypes of its set and over all poses, which is the same in every pose. Similarity is the
correlation of contrasts.

Shape suffixes: R distilled sets, S prototypes of a set, K classes, H = W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from raydistill.statistics.intervals import Interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAX_ROUNDS = 10  # of turning every set to the mean; two or three are enough


def poses(pictures_NHWC: Floats) -> Floats:
    """Return the eight poses of square pictures, float64 [8, N, H, W, C].

    The first pose is unchanged.
    """
    turns = [np.rot90(pictures_NHWC, turn, axes=(1, 2)) for turn in range(4)]
    return np.stack([*turns, *(turned[:, :, ::-1] for turned in turns)])


def contrasts(pictures_SHWC: Floats) -> Floats:
    """Return each prototype's difference from the mean over the set and all poses."""
    common_HWC = poses(pictures_SHWC).mean(axis=(0, 1))
    return pictures_SHWC - common_HWC


def best_pose_similarity(a_AHWC: Floats, b_BHWC: Floats) -> tuple[Floats, Ints]:
    """Return the similarity of pictures in their best pose.

    Parameters
    ----------
    a_AHWC, b_BHWC
        Contrasts of two sets.

    Returns
    -------
    similarity_AB : numpy.ndarray
        float64 [A, B], the largest correlation of `a` with a pose of `b`; 0 for a constant picture.
    pose_AB : numpy.ndarray
        int64 [A, B], the pose of `b`.
    """
    a, b = _unit(a_AHWC.reshape(len(a_AHWC), -1)), poses(b_BHWC)
    correlation_8AB = np.stack([a @ _unit(poses.reshape(len(poses), -1)).T for poses in b])
    return correlation_8AB.max(axis=0), correlation_8AB.argmax(axis=0)


def _unit(vectors_ND: Floats) -> Floats:
    centred = vectors_ND - vectors_ND.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-12)


@dataclass(frozen=True)
class Ensemble:
    """The prototypes of R sets, turned into a common pose.

    Attributes
    ----------
    pictures_RSHWC
        float64, the prototypes in their common pose; those of a class are in a common order.
    """

    pictures_RSHWC: Floats

    @property
    def mean(self) -> Floats:
        """Return the mean over the sets, float64 [S, H, W, C]."""
        return self.pictures_RSHWC.mean(axis=0)

    @property
    def deviation(self) -> Floats:
        """Return the standard deviation over sets, float64 [S, H, W, C]; NaN for one set."""
        if len(self.pictures_RSHWC) < 2:
            return np.full(self.pictures_RSHWC.shape[1:], np.nan)
        return self.pictures_RSHWC.std(axis=0, ddof=1)


def align_sets(sets: Sequence[Floats], labels_S: Ints) -> Ensemble:
    """Return the prototypes of all sets in a common pose and order.

    The first set is the first reference. Then every prototype is turned to the mean of all, until no
    pose changes. Several prototypes of a class are matched one to one, so that the sum of their
    similarities is largest.

    Parameters
    ----------
    sets
        float64 [S, H, W, C] of each set, H = W.
    labels_S
        The class of each prototype, the same for all sets.
    """
    chosen = [np.asarray(pictures, np.float64) for pictures in sets]
    reference = chosen[0]
    for _ in range(MAX_ROUNDS):
        turned = [_turn_to(pictures, reference, labels_S) for pictures in chosen]
        mean = np.mean(turned, axis=0)
        if np.allclose(mean, reference, rtol=0, atol=1e-12):
            break
        reference = mean
    return Ensemble(np.stack(turned))


def _turn_to(pictures_SHWC: Floats, reference_SHWC: Floats, labels_S: Ints) -> Floats:
    """Return the prototypes in the order and the poses that fit the reference best."""
    similarity_SS, pose_SS = best_pose_similarity(contrasts(reference_SHWC), contrasts(pictures_SHWC))
    all_poses = poses(pictures_SHWC)
    turned = np.empty_like(pictures_SHWC)
    for label in np.unique(labels_S):
        of_class = np.flatnonzero(labels_S == label)
        slots, matched = optimize.linear_sum_assignment(-similarity_SS[np.ix_(of_class, of_class)])
        for slot, source in zip(of_class[slots], of_class[matched], strict=True):
            turned[slot] = all_poses[pose_SS[slot, source], source]
    return turned


@dataclass(frozen=True)
class ClassRecurrence:
    """Whether the prototype of a class looks the same in another distillation.

    Attributes
    ----------
    same
        Mean similarity to the prototypes of the class in other sets.
    different
        Mean similarity to the prototypes of other classes in other sets.
    excess
        `same` minus `different`, with the jackknife interval over sets; NaN ends for fewer than
        three sets.
    p_value
        One-sided, of no excess; not adjusted. NaN for fewer than three sets.
    n
        Number of sets.
    """

    same: float
    different: float
    excess: Interval
    p_value: float
    n: int


def similarity_of_classes(sets: Sequence[Floats], labels_S: Ints) -> Floats:
    """Return the similarity of the classes of every two sets, float64 [R, R, K, K].

    Several prototypes of a class are matched one to one on the diagonal, and all pairs are averaged
    elsewhere. Entries of a set with itself compare different classes of one set; its diagonal is 1.
    """
    all_contrasts = [contrasts(np.asarray(pictures, np.float64)) for pictures in sets]
    classes = np.unique(labels_S)
    similarity = np.empty((len(sets), len(sets), len(classes), len(classes)))
    for r, first in enumerate(all_contrasts):
        for s, second in enumerate(all_contrasts):
            similarity_SS, _ = best_pose_similarity(first, second)
            for i, a in enumerate(classes):
                for j, b in enumerate(classes):
                    block = similarity_SS[np.ix_(labels_S == a, labels_S == b)]
                    matched = block[optimize.linear_sum_assignment(-block)] if i == j else block
                    similarity[r, s, i, j] = matched.mean()
    return similarity


def recurrence_of_classes(similarity_RRKK: Floats) -> list[ClassRecurrence]:
    """Return each class's recurrence from `similarity_of_classes` of two or more sets.

    The excess is a mean over pairs of sets, and a set is part of several pairs. So its error is the
    jackknife's over sets, and its interval Student's t with R - 1 degrees of freedom.
    """
    num_sets, num_classes = len(similarity_RRKK), similarity_RRKK.shape[2]
    if num_sets < 2:
        raise ValueError("recurrence needs at least two distilled sets")
    recurrences = []
    for label in range(num_classes):
        others = np.arange(num_classes) != label
        same_RR = similarity_RRKK[:, :, label, label]
        different_RR = (
            similarity_RRKK[:, :, label][:, :, others].mean(axis=2) if others.any() else np.zeros_like(same_RR)
        )
        different_RR = (different_RR + different_RR.T) / 2
        excess_RR = same_RR - different_RR
        value = _mean_of_pairs(excess_RR)
        interval, p_value = Interval(value, np.nan, np.nan), np.nan
        if num_sets >= 3:
            error = _jackknife_error(excess_RR)
            half = float(special.stdtrit(num_sets - 1, 0.975)) * error
            interval = Interval(value, value - half, value + half)
            p_value = float(special.stdtr(num_sets - 1, -value / max(error, 1e-12)))
        recurrences.append(
            ClassRecurrence(_mean_of_pairs(same_RR), _mean_of_pairs(different_RR), interval, p_value, num_sets)
        )
    return recurrences


def _mean_of_pairs(values_RR: Floats) -> float:
    """Return the mean over pairs of different sets."""
    return float(values_RR[~np.eye(len(values_RR), dtype=bool)].mean())


def _jackknife_error(values_RR: Floats) -> float:
    """Return the standard error of the mean over pairs, by leaving out sets in turn."""
    rows = np.arange(len(values_RR))
    left_out = np.array([_mean_of_pairs(values_RR[np.ix_(rows != row, rows != row)]) for row in rows])
    return float(np.sqrt((len(rows) - 1) / len(rows) * ((left_out - left_out.mean()) ** 2).sum()))
