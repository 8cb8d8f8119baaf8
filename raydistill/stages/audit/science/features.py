"""Compute the features of pictures that need no trained network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raydistill.morphology.pictures import QUANTITIES, morphology
from raydistill.stages.audit.science.comparison import FeatureArray, Features
from raydistill.stages.audit.science.scattering import scattering

SCATTERING, MORPHOLOGY = "scattering", "morphology"


def picture_features(
    pictures_NHWC: npt.NDArray[np.uint8],
    labels_N: npt.NDArray[np.int64] | None = None,
    class_names: tuple[str, ...] = (),
) -> Features:
    """Return the scattering coefficients and the morphology of pictures.

    Parameters
    ----------
    pictures_NHWC
        uint8 [N, H, H, 3].
    labels_N
        int64 [N], their classes; None where they are unknown.
    class_names
        Names of the classes.

    Returns
    -------
    Features
        The spaces `SCATTERING` and `MORPHOLOGY`.
    """
    pictures = pictures_NHWC.astype(np.float32) / 255
    spaces = {
        SCATTERING: FeatureArray(scattering(pictures)),
        MORPHOLOGY: FeatureArray(morphology(pictures), QUANTITIES),
    }
    return Features(spaces, labels_N, class_names)
