"""The cache of an evaluation: results of fits, and images of slow baselines.

An interrupted evaluation resumes from it, and evaluations of the same run share it. The folder may
be removed at any time.
"""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor

from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.storage import Folder, checked

FOLDER = "fit_cache"


class FitCache:
    """Store files in the folder of a run, named after the digest of their inputs.

    A damaged file counts as absent.
    """

    def __init__(self, run_folder: Folder) -> None:
        self._folder = run_folder / FOLDER

    def load_result(self, digest: str) -> dict[str, Any] | None:
        """Return the cached row of a fit, or None."""
        data = checked.read(self._folder, f"{digest}.json")
        return None if data is None else dict(json.loads(data))

    def store_result(self, digest: str, row: dict[str, Any]) -> None:
        checked.write(self._folder, f"{digest}.json", json.dumps(row).encode())

    def load_images(self, name: str) -> Tensor | None:
        """Return cached images, or None."""
        data = checked.read(self._folder, f"{name}.safetensors")
        return None if data is None else unpack_tensors(data)[0]["images"]

    def store_images(self, name: str, images: Tensor) -> None:
        checked.write(self._folder, f"{name}.safetensors", pack_tensors({"images": images}))
