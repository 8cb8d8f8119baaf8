"""Catalogues with exactly the columns of galaxy-datasets are read.

So are catalogues with the columns of its data sets on Hugging Face.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.errors import CatalogError
from raydistill.galaxies.campaigns import CAMPAIGNS, COUNT, FRACTION
from raydistill.galaxies.catalog import read_catalog
from raydistill.galaxies.classes import BUILTIN_TREES
from raydistill.galaxies.pictures.sources import ParquetImages
from raydistill.galaxies.selection import assign_classes
from raydistill.galaxies.trees import TREES
from tests.unit.galaxies.test_campaigns import assert_read, random_counts, table_of

N = 4
IDS = [f"{587722}{n}" for n in range(N)]
FILES = [f"{object_id}.jpg" for object_id in IDS]
HERE: dict[str, Any] = {
    "filename": FILES, "subfolder": ["587722"] * N, "file_loc": [f"/home/me/images/587722/{file}" for file in FILES]
}  # fmt: skip
SKY: dict[str, Any] = {"ra": [1.0] * N, "dec": [2.0] * N}

# Campaign -> kinds of votes, and the other columns, as galaxy-datasets writes or returns the catalogue.
CATALOGUES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "galaxy-datasets": (
        (COUNT, FRACTION),
        {**SKY, **HERE, "id_str": IDS, "iauname": ["J1"] * N, "smooth-or-featured-gz2_semantic": ["smooth"] * N,
         "summary": ["smooth_round"] * N, "leaf_prob": [0.5] * N, "label": [0, 1, 2, -1]},
    ),
    "gz-decals-5": ((COUNT, FRACTION), {"iauname": IDS, "redshift": [0.1] * N, **HERE}),
    "gz-jwst": ((COUNT,), {"id_str": IDS, "subject_id": [1, 2, 3, 4], "filename": FILES, "file_loc": HERE["file_loc"]}),
    "gz-euclid": ((COUNT,), {"id_str": IDS, "filename": FILES, "in_gz_euclid": [True] * N}),
}  # fmt: skip
# Catalogues without a column of ids.
WITHOUT_IDS = {"gz-hubble": SKY, "gz-candels": SKY, "gz-ukidss": {"subfolder": ["587722"] * N}, "gz-cosmic-dawn": SKY}


def write(path: Path, table: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)
    return str(path)


@pytest.mark.parametrize("name", CATALOGUES)
def test_catalogue_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    kinds, others = CATALOGUES[name]
    tree, counts = CAMPAIGNS[name].tree, random_counts(CAMPAIGNS[name].tree, N)
    votes = table_of(tree, CAMPAIGNS[name].tag, counts, *kinds, totals=FRACTION in kinds)
    del votes["id_str"]
    catalog = read_catalog(write(tmp_path / "train_catalog.parquet", {**votes, **others}))
    assert_read(catalog, tree, counts)
    assert catalog["object_id"].to_pylist() == IDS
    assert catalog["total_votes"].to_pylist() == counts.sum(axis=1).tolist()


@pytest.mark.parametrize("name", WITHOUT_IDS)
def test_catalogue_without_ids_has_paths_instead(tmp_path: Path, name: str) -> None:
    tree, counts = CAMPAIGNS[name].tree, random_counts(CAMPAIGNS[name].tree, N)
    votes = table_of(tree, CAMPAIGNS[name].tag, counts, COUNT, totals=False)
    del votes["id_str"]
    uri = write(tmp_path / "train_catalog.parquet", {**votes, **WITHOUT_IDS[name], "filename": FILES})
    with pytest.raises(
        CatalogError, match=r"no id column; if column 'filename' .* set survey\.images\.path_column=filename"
    ):
        read_catalog(uri)
    catalog = read_catalog(uri, path_column="filename")
    assert_read(catalog, tree, counts)
    assert catalog["object_id"].to_pylist() == catalog["file"].to_pylist() == FILES


def test_folder_and_name_of_a_picture_may_be_two_columns(tmp_path: Path) -> None:
    """GZ DESI, GZ UKIDSS and GZ Rings on disk have no `file_loc`.

    Their `subfolder` is an integer or text.
    """
    votes = table_of(TREES["gz-rings"], "", random_counts(TREES["gz-rings"], N), COUNT, totals=False)
    table = {**votes, "id_str": IDS, "subfolder": [7, 7, 8, 8], "filename": FILES}
    uri = write(tmp_path / "rings.parquet", table)
    catalog = read_catalog(uri, path_column="subfolder/filename")
    assert catalog["file"].to_pylist() == [f"{n}/{file}" for n, file in zip([7, 7, 8, 8], FILES, strict=True)]
    assert catalog["object_id"].to_pylist() == IDS
    with pytest.raises(CatalogError, match=r"no column 'folder'; correct survey\.images\.path_column"):
        read_catalog(uri, path_column="folder/filename")


def test_rings_have_one_question(tmp_path: Path) -> None:
    """`rings_train_catalog.parquet`; `ring_fraction` is that of yes."""
    table = {
        "id_str": IDS, "brickid": ["296755"] * N, "objid": IDS, **HERE, "ring_fraction": [0.75, 0.25, 0.0, 1.0],
        "ring_yes": [6.0, 2.0, 0.0, 10.0], "ring_no": [2.0, 6.0, 10.0, 0.0], "total_votes": [8, 8, 10, 10],
    }  # fmt: skip
    catalog = read_catalog(write(tmp_path / "rings.parquet", table))
    assert catalog.schema.metadata[b"raydistill.dialect"] == b"gz-rings"
    assert catalog["votes"].to_pylist() == [[0.75, 0.25], [0.25, 0.75], [0.0, 1.0], [1.0, 0.0]]
    assert catalog["total_votes"].to_pylist() == [8, 8, 10, 10]
    classes = BUILTIN_TREES["gz-rings-2"]
    assigned = assign_classes(catalog, classes).sort_by("object_id")
    assert [classes.names[label] for label in assigned["label"].to_pylist()] == ["ring", "no_ring", "no_ring", "ring"]


@pytest.mark.parametrize(
    ("column", "values", "others"),
    [
        ("label", [0, 1, 2, 3], {"id_str": IDS, "filename": FILES}),  # Galaxy MNIST
        ("ring", [0, 1, 0, 1], {"id_str": IDS, **HERE}),  # demo rings
        ("coarse_tidal_label", ["tidal", "none"] * 2, {"id_str": IDS, "filename": FILES}),  # tidal features
        ("summary", ["smooth_round"] * N, CATALOGUES["galaxy-datasets"][1]),  # the leaves of Galaxy Zoo 2
    ],
)
def test_labels_are_read_from_a_named_column(
    tmp_path: Path, column: str, values: list[Any], others: dict[str, Any]
) -> None:
    uri = write(tmp_path / "catalog.parquet", {**others, column: values})
    catalog = read_catalog(uri, columns={"label": column})
    assert catalog["label"].to_pylist() == [str(value) for value in values]
    assert catalog["object_id"].to_pylist() == IDS
    if column not in ("label", "summary"):
        with pytest.raises(CatalogError, match="no columns of a known catalog schema"):
            read_catalog(uri)


def test_data_set_of_hugging_face_holds_votes_and_pictures(tmp_path: Path) -> None:
    """mwalmsley/gz2: `data` and `tiny` hold the same galaxies.

    Their columns go question by question: count, fraction, total.
    """
    tree, counts = TREES["gz2"], random_counts(TREES["gz2"], N)
    votes = table_of(tree, "gz2", counts, COUNT, FRACTION)
    pictures = pa.array([{"bytes": b"jpeg", "path": file} for file in FILES])
    table = {"image": pictures, "dataset_name": ["gz2"] * N, **SKY, **votes, "id_str": IDS, "summary": ["a"] * N}
    halves = [{key: column[:2] for key, column in table.items()}, {key: column[2:] for key, column in table.items()}]
    for name, half in zip(("train-00000-of-00002", "train-00001-of-00002"), halves, strict=True):
        write(tmp_path / "data" / f"{name}.parquet", half)
    write(tmp_path / "tiny" / "train-00000-of-00001.parquet", halves[0])
    catalog = read_catalog(str(tmp_path / "data"))
    assert_read(catalog, tree, counts)
    assert catalog["object_id"].to_pylist() == IDS
    stored = ParquetImages(uri=str(tmp_path / "data")).dataset().to_table(columns=["id_str", "image"])
    assert dict(zip(stored["id_str"].to_pylist(), stored["image"].to_pylist(), strict=True)) == {
        object_id: {"bytes": b"jpeg", "path": file} for object_id, file in zip(IDS, FILES, strict=True)
    }
    with pytest.raises(CatalogError, match="2 ids in 'id_str' occur in several rows"):
        read_catalog(str(tmp_path))  # both configurations at once
