"""Decompose features into sparse ones; find which recur, and follow answers.

A sparse autoencoder finds other features for another seed, and for another network. A feature that
others do not find again says something about the training, not about galaxies. So only features
that recur are described.

Shape suffixes: N pictures, M sparse features, A answers, B other autoencoders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import optimize, stats
from torch import Tensor, nn

from raydistill.learning.checks import positive
from raydistill.seeding import fold_in, generator
from raydistill.statistics.intervals import NO_INTERVAL, Interval, percentile_interval
from raydistill.statistics.resampling import draws

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SAME_FEATURE = 0.7  # correlation over pictures from which two features count as the same
RECURRING_SHARE = 0.5  # of the other autoencoders that must have the feature
MIN_PICTURES = 30  # with a known answer, to choose it and again to measure it
WEAKEST_ALIGNMENT = 0.3  # rank correlation below which an answer explains less than a tenth
_ALIGNMENT_RESAMPLES = 500


@dataclass(frozen=True)
class Recurrence:
    """How well other autoencoders find the features of the first one again.

    Attributes
    ----------
    correlation_BM
        float64, Pearson's correlation with the matched feature of each other autoencoder; 0 for a
        dead feature.
    """

    correlation_BM: Floats

    @property
    def share(self) -> Floats:
        """Return the share of the other autoencoders that have each feature, float64 [M]."""
        return (self.correlation_BM >= SAME_FEATURE).mean(axis=0)

    @property
    def recurring(self) -> Bools:
        """Return which features recur, bool [M]."""
        return self.share >= RECURRING_SHARE


def recurrence(activations_NM: Floats, others: Sequence[Floats]) -> Recurrence:
    """Match the features of an autoencoder with those of others on the same pictures.

    Each feature is matched with at most one feature of another autoencoder, so that the sum of
    correlations is largest (the Hungarian algorithm).

    Parameters
    ----------
    activations_NM
        float [N, M].
    others
        float [N, M'] of each other autoencoder, at least one.
    """
    rows = []
    for other in others:
        correlation_MM = _correlations(activations_NM, other)
        features, matched = optimize.linear_sum_assignment(-correlation_MM)
        row = np.zeros(activations_NM.shape[1])
        row[features] = correlation_MM[features, matched]
        rows.append(row)
    return Recurrence(np.stack(rows))


def _correlations(a_NM: Floats, b_NL: Floats) -> Floats:
    """Return Pearson's correlations [M, L]; 0 for a feature that does not vary."""
    a, b = (_unit(np.asarray(values, np.float64)) for values in (a_NM, b_NL))
    return a.T @ b


def _unit(values_NM: Floats) -> Floats:
    centred = values_NM - values_NM.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-9)


@dataclass(frozen=True)
class Alignment:
    """The answer that a sparse feature follows most closely.

    Attributes
    ----------
    answer
        Number of the answer; None where no answer could be tested.
    interval
        Spearman's correlation with its fraction on held-out pictures, and the 95 % bootstrap
        interval.
    n
        Held-out pictures with a known fraction.
    p_value
        Two-sided, of no correlation; not adjusted. 1 where there is no answer.
    """

    answer: int | None
    interval: Interval
    n: int
    p_value: float

    def is_aligned(self, adjusted_p_value: float) -> bool:
        """Return whether the feature follows the answer significantly and not just weakly."""
        return adjusted_p_value < 0.05 and abs(self.interval.value) >= WEAKEST_ALIGNMENT


NO_ALIGNMENT = Alignment(None, NO_INTERVAL, 0, 1.0)


def align(
    choosing_NM: Floats, choosing_votes_NA: Floats, held_out_NM: Floats, held_out_votes_NA: Floats, seed: int
) -> list[Alignment]:
    """Return the alignment of each sparse feature.

    The answer is chosen on some pictures, by the largest absolute rank correlation. The correlation
    is measured on others, because the largest of many is too large by chance.

    Parameters
    ----------
    choosing_NM, choosing_votes_NA
        Sparse features and vote fractions of the pictures that choose the answer. NaN: unknown.
    held_out_NM, held_out_votes_NA
        Those of the pictures that measure the correlation.
    seed
        Of the bootstrap.
    """
    alignments = []
    for feature in range(choosing_NM.shape[1]):
        correlation_A = np.array(
            [spearman(choosing_NM[:, feature], votes_N) for votes_N in choosing_votes_NA.T], np.float64
        )
        if np.isnan(correlation_A).all():
            alignments.append(NO_ALIGNMENT)
            continue
        answer = int(np.nanargmax(np.abs(correlation_A)))
        own_seed = fold_in(seed, "alignment", feature)
        alignments.append(_measure(held_out_NM[:, feature], held_out_votes_NA[:, answer], answer, own_seed))
    return alignments


def spearman(values_N: Floats, votes_N: Floats) -> float:
    """Return Spearman's rank correlation over the pictures whose vote is known.

    NaN if there are fewer than `MIN_PICTURES`, or if values or votes do not vary.
    """
    known = np.isfinite(votes_N)
    values, votes = values_N[known], votes_N[known]
    if known.sum() < MIN_PICTURES or np.ptp(values) == 0 or np.ptp(votes) == 0:
        return float("nan")
    return float(stats.spearmanr(values, votes).statistic)


def _measure(values_N: Floats, votes_N: Floats, answer: int, seed: int) -> Alignment:
    known = np.isfinite(votes_N)
    values, votes = np.asarray(values_N, np.float64)[known], votes_N[known]
    value = spearman(values, votes)
    if np.isnan(value):
        return Alignment(None, NO_INTERVAL, int(known.sum()), 1.0)
    resampled = np.concatenate(
        [_rank_correlations(values[rows], votes[rows]) for rows in draws(len(values), seed, _ALIGNMENT_RESAMPLES)]
    )
    p_value = float(stats.spearmanr(values, votes).pvalue)
    return Alignment(answer, percentile_interval(value, resampled), int(known.sum()), p_value)


def _rank_correlations(a_BN: Floats, b_BN: Floats) -> Floats:
    """Return Spearman's correlation of each pair of rows, [B]; NaN if one is constant."""
    a, b = (stats.rankdata(values, axis=1) for values in (a_BN, b_BN))
    a, b = (values - values.mean(axis=1, keepdims=True) for values in (a, b))
    product, length = (a * b).sum(axis=1), np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide(product, length, out=np.full(len(a), np.nan), where=length > 0)


def strongest(activations_N: Floats, count: int) -> Ints:
    """Return the pictures that activate a feature most, the strongest first.

    Pictures that do not activate it are left out.
    """
    order = np.argsort(-activations_N, kind="stable")[:count]
    return order[activations_N[order] > 0]


# Decompose network features into few active parts by a top-k sparse autoencoder.
#
#     z = top_k(relu(W_e (x - b))),    x' = b + W_d z
#
# At most k of the M sparse features are active for a picture (k-sparse autoencoders, Makhzani & Frey
# 2013, arXiv:1312.5663; with unit columns of W_d as in Gao et al. 2024, arXiv:2406.04093). On
# features of galaxy networks they follow volunteers' answers more closely than principal components
# do (arXiv:2510.23749).
#
# The features x are centred and divided by their root mean square before. Training is plain Adam on
# the squared error, deterministic for a seed on one kind of processor.


@dataclass(frozen=True, kw_only=True)
class SparseTraining:
    """Set the size and the training of a sparse autoencoder.

    Parameters
    ----------
    num_features
        M, the number of sparse features.
    active
        k, how many of them are active for a picture at most.
    epochs
        Passes over the pictures.
    batch_size
        Pictures per step.
    lr
        Learning rate of Adam, which falls to 0 along a cosine.
    """

    num_features: int = 64
    active: int = 8
    epochs: int = 60
    batch_size: int = 64
    lr: float = 0.003

    def __post_init__(self) -> None:
        positive(self, "num_features", "active", "epochs", "batch_size", "lr")
        if self.active > self.num_features:
            raise ValueError(f"active must be at most num_features ({self.num_features}), got {self.active}")


@dataclass(frozen=True)
class SparseAutoencoder:
    """A trained sparse autoencoder.

    Attributes
    ----------
    mean_F
        Mean of the features of the training pictures.
    scale
        Root mean square of their differences from the mean.
    encoder_MF, bias_M, decoder_MF
        W_e, its offset, and the transpose of W_d, whose rows have length 1.
    active
        k.
    """

    mean_F: Tensor
    scale: float
    encoder_MF: Tensor
    bias_M: Tensor
    decoder_MF: Tensor
    active: int

    def activations(self, features_NF: Tensor) -> Tensor:
        """Return the sparse features of pictures, float32 [N, M]; at most k are positive."""
        return _top_k(self._centred(features_NF) @ self.encoder_MF.T + self.bias_M, self.active)

    def reconstruct(self, activations_NM: Tensor) -> Tensor:
        """Return the features float32 [N, F] that sparse features stand for."""
        return activations_NM @ self.decoder_MF * self.scale + self.mean_F

    def explained_variance(self, features_NF: Tensor) -> float:
        """Return the share of the features' variance that the reconstruction explains.

        It is at most 1.
        """
        residual = features_NF - self.reconstruct(self.activations(features_NF))
        total = (features_NF - features_NF.mean(dim=0)).square().sum()
        return 1 - float(residual.square().sum() / total)

    def _centred(self, features_NF: Tensor) -> Tensor:
        return (features_NF - self.mean_F) / self.scale


def fit_autoencoder(features_NF: Tensor, training: SparseTraining, seed: int) -> SparseAutoencoder:
    """Return an autoencoder of these features.

    Parameters
    ----------
    features_NF
        float32, features of the training pictures.
    training
        Its size and training.
    seed
        Decides the initial directions and the order of pictures.

    Raises
    ------
    ValueError
        If all pictures have the same features.
    """
    features_NF = features_NF.float()
    mean_F = features_NF.mean(dim=0)
    scale = float((features_NF - mean_F).square().mean().sqrt())
    if scale == 0:
        raise ValueError("all pictures have the same features, so there is nothing to decompose")
    inputs_NF = (features_NF - mean_F) / scale
    start = torch.randn(training.num_features, inputs_NF.shape[1], generator=generator(seed, "directions"))
    # The encoder starts as the transpose of the decoder, so that no feature is dead from the start.
    start = nn.functional.normalize(start, dim=1)
    decoder, encoder = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    bias = nn.Parameter(torch.zeros(training.num_features))
    optimiser = torch.optim.Adam([decoder, encoder, bias], lr=training.lr)
    batches = math.ceil(len(inputs_NF) / training.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.epochs * batches)
    order = generator(seed, "order")
    for _ in range(training.epochs):
        for rows in torch.randperm(len(inputs_NF), generator=order).split(training.batch_size):
            batch = inputs_NF[rows]
            reconstruction = _top_k(batch @ encoder.T + bias, training.active) @ decoder
            optimiser.zero_grad()
            (reconstruction - batch).square().mean().backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                decoder.copy_(nn.functional.normalize(decoder, dim=1))
    return SparseAutoencoder(mean_F, scale, encoder.detach(), bias.detach(), decoder.detach(), training.active)


def dead_features(activations_NM: Tensor) -> Tensor:
    """Return which sparse features are active for no picture, bool [M]."""
    return (activations_NM <= 0).all(dim=0)


def _top_k(values_NM: Tensor, k: int) -> Tensor:
    """Return the k largest values of each row, without those below 0; 0 elsewhere."""
    largest, columns = values_NM.topk(k, dim=1)
    return torch.zeros_like(values_NM).scatter(1, columns, largest.relu())
