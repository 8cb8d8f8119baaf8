"""Open any artifact by its path: the manifest says which kind it is."""

from __future__ import annotations

from typing import Any

from raydistill import table
from raydistill.artifacts.manifest import kind_of
from raydistill.errors import ArtifactIncompatible
from raydistill.storage import Folder


def open_artifact(uri: str | Folder, *, verify: bool = True) -> Any:
    """Open the artifact of any kind at a path or URI, as `raydistill.open` describes.

    A class is imported when an artifact of its kind is opened: most import torch.
    """
    folder = uri if isinstance(uri, Folder) else Folder(uri)
    kind = table.kinds().get(kind_of(folder))
    if kind is None:
        what = f"this raydistill does not know artifacts of kind '{kind_of(folder)}'"
        raise ArtifactIncompatible(what, folder.uri, "install the release or the package that wrote it")
    return table.resolve(kind.artifact).open(folder, verify=verify)
