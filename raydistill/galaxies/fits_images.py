"""FITS files of bands as a source of pictures."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from raydistill.galaxies.images import RejectedImage, is_truncated
from raydistill.galaxies.picture_files import Source, check_pattern, locate, read_source


@dataclass(frozen=True)
class FitsImages:
    """One FITS file per object with three bands, stretched as in Lupton et al. 2004 (asinh).

    Parameters
    ----------
    root
        Path or URI of the folder.
    pattern
        File name below `root`, with `{id}` for the object id.
    mapping
        A table with the columns objid and asset_id. `{id}` is then the asset id.
    channels
        The planes for red, green and blue; SDSS uses (i, r, g). A text names an extension. A number
        is an index into the cube if the file's first image is a cube, else into the extensions.
    scales
        Factors on the three bands before the stretch. SDSS pictures use such factors because a
        galaxy's flux falls from i to g.
    stretch
        Linear width of `make_lupton_rgb`, in the unit of the file.
    q
        Softening of `make_lupton_rgb`.
    minimum
        Black level of `make_lupton_rgb`, in the unit of the file.
    """

    root: str
    pattern: str = "{id}.fits"
    mapping: str | None = None
    channels: tuple[int | str, int | str, int | str] = ("I", "R", "G")
    scales: tuple[float, float, float] = (0.8, 1.0, 1.4)
    stretch: float = 0.35
    q: float = 10.0
    minimum: float = 0.01
    kind: Literal["fits"] = "fits"

    def __post_init__(self) -> None:
        check_pattern(self.pattern)

    def paths(self, object_ids: Sequence[str]) -> list[str | None]:
        """Return the path of each object's file, or None if it has none.

        The folder is listed once.
        """
        return locate(self.root, self.pattern, self.mapping, object_ids)

    def decode(self, source: Source) -> np.ndarray:
        """Return uint8 `[H, W, 3]`, row 0 at the top: the rows of the FITS arrays are flipped.

        Raises
        ------
        RejectedImage
            With the reason missing, unreadable, empty, corrupt or truncated; wrong-bands if a
            channel is missing; wrong-size if the bands differ in shape; not-finite if any pixel is
            NaN or infinite.

        References
        ----------
        Lupton et al. 2004, PASP 116, 133, arXiv:astro-ph/0312483.
        """
        from astropy.visualization import make_lupton_rgb

        content, where = read_source(source)
        bands = [scale * band for scale, band in zip(self.scales, self._bands(content, where), strict=True)]
        if len({band.shape for band in bands}) > 1 or bands[0].ndim != 2:
            raise RejectedImage("wrong-size", where, f"bands of shape {[band.shape for band in bands]}")
        if not all(np.isfinite(band).all() for band in bands):
            raise RejectedImage("not-finite", where, "NaN or infinite pixels")
        rgb = make_lupton_rgb(*bands, minimum=self.minimum, stretch=self.stretch, Q=self.q)
        return np.ascontiguousarray(rgb[::-1])

    def _bands(self, content: bytes, where: str) -> list[np.ndarray]:
        from astropy.io import fits

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with fits.open(io.BytesIO(content)) as hdus:
                    images = [hdu for hdu in hdus if hdu.is_image and hdu.shape]
                    cube = images[0] if images and len(images[0].shape) == 3 else None
                    planes = [self._plane(hdus, cube, channel) for channel in self.channels]
            except (KeyError, IndexError) as error:
                channels = ", ".join(map(str, self.channels))
                raise RejectedImage("wrong-bands", where, f"no plane for each of the channels {channels}") from error
            except Exception as error:  # astropy raises a dozen types for damaged files
                reason = "truncated" if is_truncated([error, *(w.message for w in caught)]) else "corrupt"
                raise RejectedImage(reason, where, " ".join(str(error).split())) from error
        if is_truncated([w.message for w in caught]):
            raise RejectedImage("truncated", where, "the file ends before its last block")
        return planes

    def _plane(self, hdus: Any, cube: Any, channel: int | str) -> np.ndarray:
        data = cube.data[channel] if cube is not None and isinstance(channel, int) else hdus[channel].data
        if data is None:
            raise KeyError(channel)
        return np.array(data, dtype=np.float64)
