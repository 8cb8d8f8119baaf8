"""Conditions of a curated set: values, unknown quantities, statistics, JSON."""

from __future__ import annotations

import io
import json
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raydistill.artifacts.manifest import commit
from raydistill.artifacts.records import checked
from raydistill.artifacts.tables import decode_images
from raydistill.errors import ArtifactIncompatible
from raydistill.galaxies.trees import GZ2
from raydistill.stages.curate.artifact import KIND, SCHEMA, CuratedSet, partition
from raydistill.stages.curate.select import conditions as module
from raydistill.stages.curate.select.conditions import (
    ConditionEncoding,
    columns_of,
    conditions_of,
    fit_encoding,
    picture_colours,
    votes_of,
)
from raydistill.stages.curate.summary import ClassSummary, Summary
from raydistill.storage import Folder

SIZE, ANSWERS = 4, len(GZ2.answers)
RADII = [2.0, 4.0, None, 8.0, 16.0, -1.0]


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def write(
    folder: Folder, *, votes: bool = True, radii: bool = True, names: tuple[str, ...] = ("Er", "Sb")
) -> CuratedSet:
    """Write six training galaxies, the even ones of class 0.

    Number 2 has no votes and no radius.
    """
    for label in range(len(names)):
        rows = []
        for number in range(6):
            if len(names) > 1 and number % 2 != label:
                continue
            buffer = io.BytesIO()
            Image.fromarray(picture(number)).save(buffer, "PNG")
            fractions = [number / 10] * ANSWERS if votes and number != 2 else None
            values = {"petro_r90": RADII[number] if radii else None, "votes": fractions, "image": buffer.getvalue()}
            rows.append({"object_id": f"g{number}", "class_name": names[label], **values})
        with folder.writing(partition("train", label)) as path:
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    entries = tuple(ClassSummary(name, 6, 6 // len(names), 6 // len(names), 0, 0, None) for name in names)
    summary = Summary("survey", True, SIZE, 0.5, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), entries, {})
    folder.write("summary.json", summary.to_json())
    commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    return CuratedSet.open(folder)


def test_set_with_everything_has_votes_class_and_size_by_default(folder: Folder) -> None:
    encoding = fit_encoding(write(folder))
    assert [(group.name, group.size) for group in encoding.layout.groups] == [
        ("votes", ANSWERS),
        ("class", 2),
        ("size", 1),
    ]
    assert encoding.layout.groups[1].labels == ("Er", "Sb")
    assert columns_of(encoding) == ["votes", "petro_r90"]


def test_rows_become_votes_classes_radii_and_colours(folder: Folder) -> None:
    curated = write(folder)
    encoding = fit_encoding(curated, ("votes", "class", "size", "colour"))
    rows = curated.table("train", [*columns_of(encoding), "image"])
    labels = rows["label"].to_numpy()
    images = decode_images(rows["image"], SIZE)
    conditions = conditions_of(rows, labels, images, encoding)
    layout = encoding.layout
    votes, classes, radii, colours = (conditions.values_BV[:, layout.slice(n)] for n in encoding.groups)
    known = conditions.known_BV
    assert known[:, layout.slice("votes")].all(dim=1).tolist() == [True, True, False, True, True, True]
    np.testing.assert_allclose(votes[:, 0], [0, 0.1, 0, 0.3, 0.4, 0.5], rtol=1e-6)
    assert classes.tolist() == np.eye(2)[labels].tolist()
    assert known[:, layout.slice("size")].flatten().tolist() == [True, True, False, True, True, False]
    logs = np.log10([2, 4, 8, 16])
    np.testing.assert_allclose(radii.flatten()[[0, 1, 3, 4]], (logs - logs.mean()) / logs.std(), rtol=1e-5)
    measured = picture_colours(np.stack([picture(n) for n in range(6)]))
    np.testing.assert_allclose(colours, (measured - measured.mean(axis=0)) / measured.std(axis=0), rtol=1e-4, atol=1e-5)


def test_colour_is_the_ratio_of_mean_channels() -> None:
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 100, 50, 25
    expected = np.log10([100.5 / 50.5, 25.5 / 50.5])
    np.testing.assert_allclose(picture_colours(image)[0], expected, rtol=1e-12)
    assert picture_colours(np.zeros((1, 2, 2, 3), np.uint8)).tolist() == [[0, 0]], "a black picture has finite colours"


def test_statistics_of_colours_use_evenly_spaced_pictures(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STATISTICS", 3)
    encoding = fit_encoding(write(folder), ("colour",))
    chosen = picture_colours(np.stack([picture(n) for n in (0, 4, 3)]))  # class 0: 0, 2, 4; class 1: 1, 3, 5
    np.testing.assert_allclose(encoding.scales["colour"].mean, chosen.mean(axis=0))


def test_set_without_classes_votes_and_radii_is_unconditional(folder: Folder) -> None:
    curated = write(folder, votes=False, radii=False, names=("unlabelled",))
    encoding = fit_encoding(curated)
    assert encoding.layout.size == 0
    assert len(encoding.encode(3)) == 3
    with pytest.raises(ArtifactIncompatible, match="no training galaxy has votes, which"):
        fit_encoding(curated, ("votes",))
    with pytest.raises(ArtifactIncompatible, match="no training galaxy has a class"):
        fit_encoding(curated, ("class",))


def test_unknown_class_votes_and_radius_are_unknown_numbers(folder: Folder) -> None:
    encoding = fit_encoding(write(folder))
    conditions = encoding.encode(2, labels_N=np.array([1, -1]), petro_r90_N=np.array([np.nan, 3.0]))
    layout = encoding.layout
    assert not conditions.known_BV[:, layout.slice("votes")].any()
    assert conditions.known_BV[:, layout.slice("class")].tolist() == [[True, True], [False, False]]
    assert conditions.known_BV[:, layout.slice("size")].tolist() == [[False], [True]]
    assert conditions.values_BV[0, layout.slice("class")].tolist() == [0, 1]


def test_quantities_that_the_layout_lacks_are_left_out(folder: Folder) -> None:
    encoding = fit_encoding(write(folder), ("size",))
    conditions = encoding.encode(1, labels_N=np.array([1]), votes_NA=np.ones((1, ANSWERS)), petro_r90_N=np.array([4.0]))
    assert conditions.values_BV.shape == (1, 1)


def test_json_gives_the_same_encoding(folder: Folder) -> None:
    encoding = fit_encoding(write(folder), ("colour", "size", "class"))
    assert checked(folder, "x", ConditionEncoding, json.dumps(asdict(encoding)).encode()) == encoding


def test_sliced_columns_of_votes_are_read_from_their_own_rows() -> None:
    column = pa.chunked_array([pa.array([[0.0, 1.0], None, [0.5, None]], pa.list_(pa.float32()))])
    np.testing.assert_array_equal(votes_of(column.slice(1), 2), [[np.nan, np.nan], [0.5, np.nan]])
