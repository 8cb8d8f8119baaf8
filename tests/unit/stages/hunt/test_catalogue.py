"""The catalogue of labelled objects: order, purity, and hostile text."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from astropy.io.votable import parse, validate

from raydistill.galaxies.tables import open_table
from raydistill.stages.hunt.artifact import RoundSummary
from raydistill.stages.hunt.catalogue import catalogue_table, purity_counts, to_votable
from raydistill.stages.hunt.inputs.labels import KnownLabels, read_labels

IDS = ["a", "b", "c", "d<&\x07é", "e"]
TEXT = """filename,label,round,reason,score
a,5,0,,
b,3,1,high score,0.9
c,5,1,high score,0.7
d<&\x07é,4,1,high score,0.8
e,1,1,random,0.2
"""


def known() -> tuple[Any, KnownLabels]:
    survey = SimpleNamespace(ids=IDS, paths=[None] * len(IDS))
    file = read_labels(TEXT.encode(), "labels.csv")
    decisions = file.decisions()
    return survey, KnownLabels(
        file, dict(zip(IDS, range(5), strict=True)), np.arange(5), np.array(list(decisions.values()))
    )


def summary(found: int, shown: int) -> RoundSummary:
    return RoundSummary(
        target="rings & <b>\x00", survey="s", number=2, num_objects=5, num_labels=5, num_found=3, threshold=4,
        scale="1-5", learner="regression", sources=(), high_found=found, high_shown=shown,
    )  # fmt: skip


def test_finds_come_first_by_the_score_before_their_label() -> None:
    rows = catalogue_table(*known())
    assert [row.object_id for row in rows] == [IDS[3], "c", "a", "b", "e"]
    assert [row.in_class for row in rows] == [True, True, True, False, False]
    assert purity_counts(rows) == (2, 3), "of the high scores, not of given examples and random ones"


def test_the_votable_is_valid_and_is_read_back(tmp_path: Any) -> None:
    rows = catalogue_table(*known())
    content = to_votable(rows, summary(*purity_counts(rows)))
    path = tmp_path / "catalogue.vot"
    path.write_bytes(content)
    assert validate(str(path), output=io.StringIO())
    table = open_table(str(path)).read(["object_id", "label", "in_class", "score"]).to_pydict()
    assert table["object_id"] == ["d<&\\x07é", "c", "a", "b", "e"]
    assert table["label"] == ["4", "5", "5", "3", "1"]
    assert table["score"][:2] == ["0.8", "0.7"] or table["score"][:2] == [0.8, 0.7]
    params = {param.name: param.value for param in parse(str(path)).resources[0].params}
    assert params["purity"] == pytest.approx(2 / 3)
    assert params["purity_low"] < 2 / 3 < params["purity_high"]


def test_a_catalogue_without_high_scores_has_no_purity(tmp_path: Any) -> None:
    path = tmp_path / "catalogue.vot"
    path.write_bytes(to_votable(catalogue_table(*known()), summary(0, 0)))
    assert np.isnan({param.name: param.value for param in parse(str(path)).resources[0].params}["purity"])
