"""Read the FITS files of prototypes with astropy."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.io import fits


def read_prototypes(file: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Return images [N, H, W, 3], first row on top, and the primary header."""
    with fits.open(file) as hdus:
        images = np.stack([np.moveaxis(hdu.data, 0, -1)[::-1] for hdu in hdus if hdu.name == "PROTO"])
        return images, dict(hdus[0].header)
