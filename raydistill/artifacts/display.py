"""Show artifacts in a shell or a notebook, and open any of them by its path."""

from __future__ import annotations

import base64
import fnmatch
import html
import textwrap
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from raydistill import table
from raydistill.artifacts.manifest import Manifest, kind_of, open_manifest
from raydistill.artifacts.records import read_json
from raydistill.errors import ArtifactIncompatible
from raydistill.storage import Folder

if TYPE_CHECKING:
    import pandas as pd


MAX_ROWS, MAX_CONTENTS = 20, 200
STYLE = "display: inline-block; max-width: 100%; max-height: 600px"


@dataclass(frozen=True, repr=False)
class Displayed(ABC):
    """An artifact with a repr of one line.

    A notebook also shows its pictures or its table.
    """

    folder: Folder
    manifest: Manifest
    _json: ClassVar[tuple[tuple[str, Any], ...]] = ()  # files of the further fields, and their types
    _pictures: ClassVar[str] = ""  # pattern of the pictures' names; "" shows none
    _num_pictures: ClassVar[int] = 1  # the last ones in order of their names

    kind: ClassVar[str]

    @classmethod
    def open(cls, uri: str | Folder, *, verify: bool = True) -> Self:
        """Open the artifact at a path or URI.

        Parameters
        ----------
        uri
            Folder of the artifact.
        verify
            Compare the sha256 of every file with the manifest.

        Raises
        ------
        ArtifactMissing, ArtifactIncompatible, ArtifactCorrupt
            There is no finished artifact; it has another kind or schema version; a file is gone or
            damaged, or the files do not fit one another.
        """
        folder = uri if isinstance(uri, Folder) else Folder(uri)
        return cls._read(folder, open_manifest(folder, cls.kind, verify=verify))

    @classmethod
    def _read(cls, folder: Folder, manifest: Manifest) -> Self:
        """Return the artifact of a folder whose manifest fits."""
        artifact: Any = cls
        return artifact(folder, manifest, *(read_json(folder, *item) for item in cls._json))

    @abstractmethod
    def _contents(self) -> str:
        """Return what the artifact contains, and its sizes."""

    def _rows(self) -> pd.DataFrame | None:
        """Return the table that a notebook shows, if any."""
        return None

    def __repr__(self) -> str:
        contents = textwrap.shorten(self._contents(), MAX_CONTENTS, placeholder=" …")
        return f"<{type(self).__name__}: {contents}; {self.folder.shown}>"

    def _repr_html_(self) -> str:
        names = sorted(fnmatch.filter(self.manifest.files, self._pictures))[-self._num_pictures :]
        pictures = [f'<img style="{STYLE}" src="{self._data_uri(name)}">' for name in names]
        return f"<p>{html.escape(Displayed.__repr__(self))}</p>{''.join(pictures)}{self._table_html()}"

    def _table_html(self) -> str:
        rows = self._rows()
        return "" if rows is None else rows.to_html(max_rows=MAX_ROWS)

    def _data_uri(self, name: str) -> str:
        kind = "png" if name.endswith(".png") else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(self.folder.read(name)).decode()}"


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
