"""Define `Survey`: a simulated survey on disk, laid out as Galaxy Zoo 2's release.

`catalog.csv` holds the votes, `filename_mapping.csv` the file name of each galaxy, `images/` the
JPEG pictures and `truth.csv` what each galaxy was rendered with.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed

if TYPE_CHECKING:
    import pandas as pd

KIND = kinds.SURVEY
CATALOG, TRUTH = "catalog.csv", "truth.csv"


@dataclass(frozen=True, repr=False)
class Survey(Displayed):
    """An opened simulated survey.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    """

    _pictures = "images/*"
    _num_pictures = 8

    kind = KIND

    def _contents(self) -> str:
        return f"{len(fnmatch.filter(self.manifest.files, self._pictures))} simulated galaxies"

    def to_pandas(self) -> pd.DataFrame:
        """Return the catalog: one row per galaxy.

        Ids are text, and vote columns are those of Hart et al. (2016).
        """
        import pandas as pd

        with self.folder.open(CATALOG) as stream:
            return pd.read_csv(stream, dtype={"objid": str})

    def truth(self) -> pd.DataFrame:
        """Return the parameters that each galaxy was rendered with: one row per galaxy."""
        import pandas as pd

        with self.folder.open(TRUTH) as stream:
            return pd.read_csv(stream, dtype={"objid": str})
