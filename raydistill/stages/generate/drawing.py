"""Draw a few galaxies of each class: a baseline, or the start of a distillation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from raydistill.diffusion.modes import modes_of, near_modes
from raydistill.diffusion.noised import SCALE
from raydistill.diffusion.sampling import sample
from raydistill.distillation.coreset import rows_and_counts
from raydistill.distillation.recipe import Drawn
from raydistill.learning.encoders import Renormalise
from raydistill.learning.normalise import Normalisation
from raydistill.seeding import fold_in, generator
from raydistill.stages.generate.artifact import GeneratorArtifact


def drawn_images(
    artifact: GeneratorArtifact,
    how: Drawn,
    images_NCHW: Tensor,
    labels_N: Tensor,
    normalisation: Normalisation,
    counts_K: Sequence[int],
    seed: int,
    device: str,
) -> Tensor:
    """Return normalised images [S, 3, H, W], sorted by class.

    "samples" are samples of the class; "mgd3" are drawn towards modes of its training images
    (`raydistill.diffusion.modes`).
    """
    drawer = artifact.load().to(device)
    side, sampling, pictures = artifact.summary.image_size, artifact.summary.sampling, []
    for label, (rows, count) in enumerate(rows_and_counts(labels_N, counts_K)):  # one by one: all may not fit
        conditions = artifact.encoding.encode(count, labels_N=np.full(count, label))
        noise = torch.randn(count, 3, side, side, generator=generator(seed, "noise", label))
        if how == "samples":
            pictures.append(sample(drawer, conditions, noise, sampling).cpu())
        else:
            real = Renormalise(normalisation, SCALE)(images_NCHW[rows].cpu())
            modes = modes_of(drawer, real, count, fold_in(seed, label))
            pictures.append(near_modes(drawer, conditions, noise, modes, sampling).cpu())
    return Renormalise(SCALE, normalisation)(torch.cat(pictures))
