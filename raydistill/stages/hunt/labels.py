"""Read the labels of a hunt, and find their objects in the survey."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from raydistill.errors import CatalogError
from raydistill.stages.hunt.science.examples import Bools
from raydistill.stages.hunt.science.labels import FILENAME, LABEL, LabelFile, match_files, new_labels, read_labels
from raydistill.stages.hunt.science.ranking import Rows
from raydistill.stages.hunt.survey import HuntedSurvey
from raydistill.storage import Folder

COLUMNS = (FILENAME, LABEL, "round", "reason", "score")  # of a new file


class KnownLabels(NamedTuple):
    """The labels of objects of a survey.

    Attributes
    ----------
    file
        The file.
    rows
        Rows of the labelled objects in the survey.
    positive
        Whether each is of the wanted kind.
    """

    file: LabelFile
    rows: Rows
    positive: Bools

    @property
    def next_round(self) -> int:
        """Return the number of the next round, from the column `round`; 2 if it is absent.

        An empty file gives 1.
        """
        numbers = [int(row["round"]) for row in self.file.rows if row.get("round", "").isdigit()]
        return max(numbers, default=1 if self.file.rows else 0) + 1


def read_label_file(uri: str) -> LabelFile:
    """Return the labels in a file at a path or URI; CatalogError if it is wrong."""
    parent, _, name = uri.rpartition("/")
    return read_labels(Folder(parent or ("/" if uri.startswith("/") else ".")).read(name), uri)


def known_labels(survey: HuntedSurvey, uri: str | None, threshold: int) -> KnownLabels:
    """Return the labels in a file; without a file there are none.

    Raises
    ------
    CatalogError
        The file is wrong, names an object that is not of the survey, or contradicts itself.
    """
    if uri is None:
        return KnownLabels(new_labels(COLUMNS), np.empty(0, np.int64), np.empty(0, bool))
    file = read_label_file(uri)
    decisions = file.decisions(threshold)
    rows = match_files(decisions, survey.ids, survey.paths, uri)
    wanted: dict[int, bool] = {}
    for name, row, positive in zip(decisions, rows, decisions.values(), strict=True):
        if wanted.setdefault(row, positive) != positive:
            what = f"the label of '{name}' contradicts that of another name of the same object"
            raise CatalogError(what, uri, "keep one of them")
    return KnownLabels(file, np.array(list(wanted), np.int64), np.array(list(wanted.values()), bool))
