"""Short reprs of artifacts, and what a notebook shows of them."""

from __future__ import annotations

import pytest

from raydistill import table
from raydistill.artifacts import manifest
from raydistill.artifacts.display import Displayed
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.simulate.artifact import Survey
from raydistill.storage import Folder
from tests.unit.stages.curate import test_curated


@pytest.mark.parametrize("kind", table.kinds())
def test_every_artifact_has_a_short_repr(kind: str) -> None:
    assert issubclass(table.resolve(table.kinds()[kind].artifact), Displayed)


def test_repr_says_what_an_artifact_holds_and_where(folder: Folder) -> None:
    test_curated.write(folder)
    curated = CuratedSet.open(folder)
    assert (
        repr(curated) == f"<CuratedSet: 5 train, 1 validation, 1 test galaxies of 2 classes, 8 pixels wide; {folder}>"
    )
    assert len(repr(curated.manifest)) < 100
    assert "<img" not in curated._repr_html_(), "this set has no pictures of examples"


def test_notebook_shows_pictures_and_escapes_text(folder: Folder) -> None:
    for number in range(20):
        folder.write(f"images/{number}.jpg", b"\xff\xd8")
    manifest.commit(folder, kind="survey", identity="0" * 64, config={}, parents={}, seed=0, uris={})
    survey = Survey.open(folder)
    shown = survey._repr_html_()
    assert shown.count('src="data:image/jpeg;base64,') == 8
    assert "&lt;Survey: 20 simulated galaxies; " in shown
