r"""Fit linear heads on frozen features in closed form (ridge regression).

With standardised features F [N, D] and centred targets Y [N, K], weights w_n and lambda > 0,

    W = argmin sum_n w_n |f_n W - y_n|^2 / D + lambda |W|^2
      = (F^T w F / D + lambda I)^-1 F^T w Y / D = F^T (F F^T / D + lambda / w)^-1 Y / D

The left form costs a solve of D rows, the right one (kernel ridge regression with the linear kernel
F F^T / D) one of N; the smaller one is taken. Both are differentiable in features and targets.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ridge_head(
    features_ND: Tensor, targets_NK: Tensor, regularisation: float, weights_N: Tensor | None = None
) -> Tensor:
    """Return the weights [D, K] of the head; its scores are features @ weights.

    Parameters
    ----------
    features_ND
        Standardised features.
    targets_NK
        Centred targets, such as one-hot labels minus 1 / K.
    regularisation
        lambda, above 0.
    weights_N
        Of the rows, above 0. None: 1.
    """
    N, D = features_ND.shape
    weights_N1 = (torch.ones(N).to(features_ND) if weights_N is None else weights_N.to(features_ND))[:, None]
    if N <= D:
        kernel_NN = features_ND @ features_ND.T / D + regularisation * torch.diag(1 / weights_N1[:, 0])
        return features_ND.T @ torch.linalg.solve(kernel_NN, targets_NK) / D
    weighted_ND = features_ND * weights_N1
    covariance_DD = weighted_ND.T @ features_ND / D
    return torch.linalg.solve(
        covariance_DD + regularisation * torch.eye(D).to(features_ND), weighted_ND.T @ targets_NK / D
    )


def balanced_weights(labels_N: Tensor, num_classes: int) -> Tensor:
    """Return weights [N] with which all classes count alike, and whose sum is N."""
    counts_K = torch.bincount(labels_N, minlength=num_classes).clamp_min(1)
    present = int((torch.bincount(labels_N, minlength=num_classes) > 0).sum())
    return len(labels_N) / (present * counts_K[labels_N].double())
