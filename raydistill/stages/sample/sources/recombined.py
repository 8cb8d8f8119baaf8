"""Make the pictures of the source `recombination`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from raydistill.artifacts.tables import decode_images
from raydistill.morphology.recombination import Parts, add_companion, decompose, recombine
from raydistill.seeding import fold_in
from raydistill.stages.sample.config import RecombinationSource
from raydistill.stages.sample.worker import Columns, PictureSource, keys_of

REMEMBERED = 256  # decomposed pictures of a worker


@dataclass(frozen=True)
class RecombinedPictures(PictureSource):
    """Put parts of the two pictures of a request together.

    Attributes
    ----------
    source
        What is done.
    contrast
        Of the stretch of the pictures.
    image_size
        Their side in pixels.
    """

    source: RecombinationSource
    contrast: float
    image_size: int

    def make(self, request: pa.Table, device: str) -> tuple[np.ndarray, Columns]:
        """Return the pictures."""
        del device
        own, similar = (
            [_parts(file, self.image_size, self.contrast) for file in request[name].to_pylist()]
            for name in ("picture", "similar")
        )
        images = []
        for galaxy, other, (seed, index) in zip(own, similar, keys_of(request), strict=True):
            rng = np.random.default_rng(fold_in(seed, "recombination", index))
            if self.source.part == "inner":
                images.append(recombine(galaxy, other, self.contrast, rng))
            else:
                separation, flux = self.source.separation, self.source.flux
                images.append(add_companion(other, galaxy, self.contrast, rng, separation, flux))
        return np.stack(images), {}

    def describe(self, request: pa.Table) -> list[str]:
        """Return the two galaxies."""
        how = "inner parts of {} in {}" if self.source.part == "inner" else "{} with {} beside it"
        pairs = zip(request["origin"].to_pylist(), request["start"].to_pylist(), strict=True)
        return [how.format(*pair) for pair in pairs]


@lru_cache(maxsize=REMEMBERED)
def _parts(file: bytes, size: int, contrast: float) -> Parts:
    return decompose(decode_images(pa.chunked_array([pa.array([file])]), size).numpy()[0], contrast)
