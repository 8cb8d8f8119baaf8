"""Ask a classifier: is this picture real or synthetic?

The classifier is Fisher's linear discriminant with a ridge, cross-validated. Its weights are linear
in the labels, so a permutation of the labels costs one matrix product. A logistic regression has
the same decision boundaries and would be fitted anew for each permutation.
"""

from __future__ import annotations

import numpy as np
import scipy

from raydistill.seeding import fold_in
from raydistill.statistics.permutation import LEFT_OUT, SYNTHETIC, Bools, Floats, Groups, Metric, PooledStatistic

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
