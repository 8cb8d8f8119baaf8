"""A small classifier of pictures, and pictures of noise."""

from __future__ import annotations

import numpy as np
import torch

from raydistill.learning.calibration import Calibration
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.normalise import AnyNormalisation, Normalisation
from raydistill.stages.experts.classify.classifier import PictureClassifier
from raydistill.surveys.survey import Preparation
from tests import zoo

NAMES = ("round", "edge_on", "spiral")
SIZE = 8
CALIBRATION = Calibration((1 / 3, 1 / 3, 1 / 3), (0.5, 0.3, 0.2), 1.5)
RGB = Normalisation((0.2, 0.2, 0.1), (0.1, 0.2, 0.3))


def pictures(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def classifier(normalisation: AnyNormalisation = RGB) -> PictureClassifier:
    architecture = zoo.NETWORKS["instance"]
    network = build_network(architecture, len(NAMES), SIZE)
    thetas = torch.stack([initial_parameters(network, seed) for seed in (1, 2)])
    preparation = Preparation(SIZE, 0.5, align=False, min_size=8)
    return PictureClassifier(architecture, NAMES, normalisation, preparation, "full", "square", thetas, CALIBRATION)
