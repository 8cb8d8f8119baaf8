"""Ask classifiers about pictures: real or synthetic, and of which class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from raydistill.seeding import fold_in
from raydistill.statistics.intervals import wilson
from raydistill.statistics.permutation import LEFT_OUT, SYNTHETIC, Bools, Floats, Frame, Groups, Metric, PooledStatistic
from raydistill.statistics.testing import Finding, holm

# Ask a classifier: is this picture real or synthetic?
#
# The classifier is Fisher's linear discriminant with a ridge, cross-validated. Its weights are linear
# in the labels, so a permutation of the labels costs one matrix product. A logistic regression has
# the same decision boundaries and would be fitted anew for each permutation.

NUM_FOLDS = 5
RIDGE = 0.01  # in units of a feature's sum of squares: below the noise of 100 pictures


def classifier_auc(pooled_ND: Floats, feature: str, seed: int = 0) -> PooledStatistic:
    """Return the ROC AUC of a cross-validated real-or-synthetic classifier.

    Parameters
    ----------
    pooled_ND
        float64 [N, D].
    feature
        Name of the feature space.
    seed
        Decides the folds.

    Returns
    -------
    PooledStatistic
        One metric, "classifier_auc": the mean over the folds. 0.5: the classifier guesses; 1: it
        recognises every picture.

    Notes
    -----
    The area is computed in each fold and then averaged. Scores of different folds have different
    offsets, so an area over all folds would lie below 0.5 for equal distributions.
    """
    order_N = np.random.default_rng(fold_in(seed, "folds")).permutation(len(pooled_ND))
    folds = np.array_split(order_N, NUM_FOLDS)

    def evaluate(groups_BN: Groups) -> Floats:
        left_out_BN = groups_BN == LEFT_OUT
        if left_out_BN.any() and len(groups_BN) > 1:
            return np.concatenate([evaluate(groups_N[None]) for groups_N in groups_BN])
        kept_N = ~left_out_BN[0]
        areas = [_fold_areas(pooled_ND, groups_BN, np.isin(np.arange(len(kept_N)), fold), kept_N) for fold in folds]
        return np.nanmean(areas, axis=0)[:, None]

    return PooledStatistic((Metric("classifier_auc", feature, bounds=(0, 1)),), evaluate)


def _fold_areas(pooled_ND: Floats, groups_BN: Groups, in_fold_N: Bools, kept_N: Bools) -> Floats:
    """Return the AUC [B] in a fold, trained on the others; NaN if a group is absent."""
    train, test = kept_N & ~in_fold_N, kept_N & in_fold_N
    labels_BN = groups_BN[:, train].astype(float)
    centred = pooled_ND[train] - pooled_ND[train].mean(0)
    gram = centred.T @ centred
    gram[np.diag_indices_from(gram)] *= 1 + RIDGE
    gram[np.diag_indices_from(gram)] += 1e-12  # a constant feature
    weights_DB = np.linalg.solve(gram, centred.T @ (labels_BN - labels_BN.mean(1, keepdims=True)).T)
    return area_under_roc((pooled_ND[test] @ weights_DB).T, groups_BN[:, test] == SYNTHETIC)


def area_under_roc(scores_BN: Floats, positive_BN: Bools) -> Floats:
    """Return the area under the ROC curve [B] from score ranks; ties count one half."""
    ranks_BN = scipy.stats.rankdata(scores_BN, axis=1)
    positives = positive_BN.sum(1)
    negatives = positive_BN.shape[1] - positives
    wins = (ranks_BN * positive_BN).sum(1) - positives * (positives + 1) / 2
    return np.divide(wins, positives * negatives, out=np.full(len(wins), np.nan), where=positives * negatives > 0)


# Ask trained experts whether synthetic pictures show what was asked for.
#
# - `recognised_classes`: the share of a class's pictures that the experts assign to it.
# - `predicted_answers`: the correlation of the asked vote fraction with the one that a regression
#   predicts from the experts' features.
#
# Held-out real galaxies set the upper bound of both. Only lower values count against the synthetic
# set.

Ints = npt.NDArray[np.int64]

MIN_OF_CLASS = 10  # pictures of each kind
MIN_OF_ANSWER = 30
MIN_REAL_CORRELATION = 0.2  # correlation on real galaxies below which an answer says nothing
_NORMAL_95 = 1.96


@dataclass(frozen=True)
class Seen:
    """Pictures as the experts see them, with what was asked for or is true.

    Attributes
    ----------
    probability_NK
        float64 [N, K], the experts' mean class probabilities.
    features_ND
        float64 [N, D], the features of the first expert.
    labels_N
        int64 [N]; None where they are unknown.
    votes_NA
        float64 [N, A], vote fractions; NaN where unknown. None: all are.
    """

    probability_NK: Floats
    features_ND: Floats
    labels_N: Ints | None = None
    votes_NA: Floats | None = None


def consistency(
    synthetic: Seen, held_out: Seen, training: Seen, class_names: Sequence[str], answers: Sequence[str]
) -> list[Finding]:
    """Return the findings on classes and answers.

    The p-values are adjusted for the number of findings.

    Parameters
    ----------
    synthetic
        The pictures, with the labels and votes of their conditions.
    held_out
        Real galaxies that set the upper bound.
    training
        Real galaxies on which the regression is trained.
    class_names, answers
        Names of the K classes and of the A answers.
    """
    findings = [
        *recognised_classes(synthetic, held_out, class_names),
        *predicted_answers(synthetic, held_out, training, answers),
    ]
    adjusted = holm(np.array([finding.p_value for finding in findings]))
    return [finding.adjusted(p_value) for finding, p_value in zip(findings, adjusted.tolist(), strict=True)]


def recognised_classes(synthetic: Seen, held_out: Seen, class_names: Sequence[str]) -> list[Finding]:
    """Return the share of the pictures of each class that the experts assign to it.

    The interval and the floor are Wilson's; the p-value is that of Fisher's exact test, one-sided
    and not adjusted. Classes with fewer than `MIN_OF_CLASS` pictures are left out.
    """
    if synthetic.labels_N is None or held_out.labels_N is None:
        return []
    findings = []
    for label, name in enumerate(class_names):
        (right, count), (real_right, real_count) = (
            _recognised(sample.probability_NK, labels_N, label)
            for sample, labels_N in ((synthetic, synthetic.labels_N), (held_out, held_out.labels_N))
        )
        if min(count, real_count) < MIN_OF_CLASS:
            continue
        ours, floor = wilson(right, count), wilson(real_right, real_count)
        table = [[right, count - right], [real_right, real_count - real_right]]
        p_value = scipy.stats.fisher_exact(table, alternative="less").pvalue
        ends = (ours.low, ours.high), (floor.low, floor.high)
        findings.append(_finding("class_recognised", name, ours.value, ends[0], floor.value, ends[1], p_value))
    return findings


def _recognised(probability_NK: Floats, labels_N: Ints, label: int) -> tuple[int, int]:
    """Return how many pictures of a class the experts assign to it, and their number."""
    assigned = probability_NK[labels_N == label].argmax(1)
    return int((assigned == label).sum()), len(assigned)


def predicted_answers(synthetic: Seen, held_out: Seen, training: Seen, answers: Sequence[str]) -> list[Finding]:
    """Return the correlation of asked and predicted fractions of each answer.

    Intervals and the one-sided p-value are Fisher's z. An answer is left out if fewer than
    `MIN_OF_ANSWER` pictures have it, if its fraction does not vary, or if the correlation on real
    galaxies may be below `MIN_REAL_CORRELATION`.

    Notes
    -----
    A correlation depends on the range of the fractions. So compare it only if the conditions of the
    synthetic pictures are those of real galaxies.
    """
    if synthetic.votes_NA is None or held_out.votes_NA is None or training.votes_NA is None:
        return []
    frame = Frame.fit(training.features_ND)
    inputs = {name: frame.apply(seen.features_ND) for name, seen in (("training", training), ("held_out", held_out))}
    inputs["synthetic"] = frame.apply(synthetic.features_ND)
    findings = []
    for column, answer in enumerate(answers):
        known = np.isfinite(training.votes_NA[:, column])
        if known.sum() < MIN_OF_ANSWER:
            continue
        weights, offset = _ridge(inputs["training"][known], training.votes_NA[known, column])
        real = _correlation(inputs["held_out"] @ weights + offset, held_out.votes_NA[:, column])
        asked = _correlation(inputs["synthetic"] @ weights + offset, synthetic.votes_NA[:, column])
        if real is None or asked is None or real.ends[0] < MIN_REAL_CORRELATION:
            continue
        difference = (np.arctanh(asked.value) - np.arctanh(real.value)) / np.hypot(asked.error, real.error)
        p_value = float(scipy.stats.norm.cdf(difference))
        findings.append(_finding("answer_predicted", answer, asked.value, asked.ends, real.value, real.ends, p_value))
    return findings


@dataclass(frozen=True)
class _Correlation:
    value: float
    error: float  # of the inverse hyperbolic tangent

    @property
    def ends(self) -> tuple[float, float]:
        z = np.arctanh(self.value)
        return float(np.tanh(z - _NORMAL_95 * self.error)), float(np.tanh(z + _NORMAL_95 * self.error))


def _correlation(predicted_N: Floats, fractions_N: Floats) -> _Correlation | None:
    known = np.isfinite(fractions_N)
    if known.sum() < MIN_OF_ANSWER or fractions_N[known].std() < 1e-3 or predicted_N[known].std() < 1e-9:
        return None
    value = float(np.corrcoef(predicted_N[known], fractions_N[known])[0, 1])
    return _Correlation(float(np.clip(value, -0.999999, 0.999999)), float(1 / np.sqrt(known.sum() - 3)))


def _ridge(inputs_ND: Floats, values_N: Floats) -> tuple[Floats, float]:
    mean_D = inputs_ND.mean(0)
    centred = inputs_ND - mean_D
    gram = centred.T @ centred
    gram[np.diag_indices_from(gram)] += RIDGE * gram.trace() / len(gram) + 1e-12
    weights_D = np.linalg.solve(gram, centred.T @ (values_N - values_N.mean()))
    return weights_D, float(values_N.mean() - mean_D @ weights_D)


def _finding(
    metric: str, feature: str, value: float, ends: tuple[float, float], floor: float, floor_ends: tuple[float, float],
    p_value: float,
) -> Finding:  # fmt: skip
    (low, high), (floor_low, floor_high) = ends, floor_ends
    return Finding(
        metric, feature, "lower", value, float(low), float(high), floor, float(floor_low), float(floor_high),
        float(p_value), significant=False,
    )  # fmt: skip
