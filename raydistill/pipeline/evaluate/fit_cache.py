"""The cache of an evaluation: results of fits, and images of slow baselines.

An interrupted evaluation resumes from it, and evaluations of the same run share it. The folder may
be removed at any time.
"""

from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raydistill.storage import Folder

FOLDER = "fit_cache"
OLD_FOLDER = "fits"  # its name in early versions; read, never written


class FitCache:
    """Store files in the folder of a run, named after the digest of their inputs.

    A damaged file counts as absent.
    """

    def __init__(self, run_folder: Folder) -> None:
        self._folder, self._old_folder = run_folder / FOLDER, run_folder / OLD_FOLDER

    def load_result(self, digest: str) -> dict[str, Any] | None:
        """Return the cached row of a fit, or None."""
        data = self._read(f"{digest}.json")
        with suppress(ValueError):
            return None if data is None else dict(json.loads(data))
        return None

    def store_result(self, digest: str, row: dict[str, Any]) -> None:
        self._folder.write(f"{digest}.json", json.dumps(row).encode())

    def load_images(self, name: str) -> Tensor | None:
        """Return cached images, or None."""
        data = self._read(f"{name}.npy")
        with suppress(ValueError, EOFError):
            return None if data is None else torch.from_numpy(np.load(io.BytesIO(data), allow_pickle=False))
        return None

    def store_images(self, name: str, images: Tensor) -> None:
        with self._folder.writing(f"{name}.npy") as path, open(path, "wb") as stream:
            np.save(stream, images.numpy(), allow_pickle=False)

    def _read(self, name: str) -> bytes | None:
        for folder in (self._folder, self._old_folder):
            if folder.exists(name):
                return folder.read(name)
        return None
