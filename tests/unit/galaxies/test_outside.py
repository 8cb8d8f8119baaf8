"""Pictures outside the folder of the config are rejected, whatever names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raydistill.config import CatalogSurvey
from raydistill.datasets.table import ImageTable
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.files import is_inside
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.surveys.finding import find_pictures, read_survey
from raydistill.surveys.opening import _of_parquet

REFUSED = r"outside of|out of this folder|leaves the folder"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder of pictures; `private` beside it has another one."""
    for name in ("images/a/1.png", "private/1.png", "images-old/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    return tmp_path / "images"


PLACES = [
    "{root}/../private/1.png", "../private/1.png", "a/../../private/1.png", "{root}/a/../../private/1.png",
    "{private}/1.png", "file://{private}/1.png", "file:{private}/1.png", "FILE://localhost{private}/1.png",
    "{root}-old/1.png", "s3://bucket/1.png", "memory://bucket/1.png", "..\\private\\1.png", "out/1.png", "link.png",
    "//{private}/1.png", "gs://bucket/private/1.png",
]  # fmt: skip


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, root: Path) -> str:
    (root / "out").symlink_to(root.parent / "private")
    (root / "link.png").symlink_to("../private/1.png")
    return str(request.param).format(root=root, private=root.parent / "private")


def test_path_of_a_table_is_rejected(place: str, root: Path) -> None:
    (root.parent / "t.csv").write_text(f"id,file,class\n1,a/1.png,a\n2,{place},b\n")
    images = FolderImages(root=str(root), path_column="file")
    survey = CatalogSurvey(catalog=str(root.parent / "t.csv"), images=images)
    with pytest.raises(CatalogError, match=REFUSED):
        find_pictures(survey, read_survey(survey))


@pytest.mark.parametrize("kind", [pa.string(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])])
def test_path_in_parquet_is_rejected(kind: pa.DataType, place: str, root: Path) -> None:
    cells = [place if kind == pa.string() else {"bytes": None, "path": place}]
    pq.write_table(pa.table({"id_str": ["1"], "label": [1], "image": pa.array(cells, kind)}), root / "t.parquet")
    objects, reader = _of_parquet(ParquetImages(uri=str(root / "t.parquet")), pa.chunked_array([["1"]]))
    with pytest.raises(CatalogError, match=REFUSED):
        _read_if_missing(next(reader.read(objects)))
    if kind != pa.string():
        for at in (root, root / "t.parquet"):
            with pytest.raises(CatalogError, match=REFUSED):
                _read_if_missing(next(ImageTable(root=str(at)).read("t.parquet", 0, [0])))


def _read_if_missing(source: object) -> None:
    """Raise CatalogError for a name that is neither a path nor a file of the folder."""
    assert not Path(str(source)).exists()
    raise CatalogError("no such file, so not outside of", str(source))


def test_path_in_parquet_may_lead_through_the_folder_above_if_the_root_holds_it(root: Path) -> None:
    (root / "data").mkdir()
    cells = [{"bytes": None, "path": "../a/1.png"}]
    pq.write_table(pa.table({"label": [1], "image": cells}), root / "data" / "t.parquet")
    (source,) = ImageTable(root=str(root)).read("data/t.parquet", 0, [0])
    assert Path(str(source)).samefile(root / "a" / "1.png")


def test_id_and_asset_id_do_not_leave_the_folder(root: Path) -> None:
    ids = ["../private/1", str(root.parent / "private" / "1"), "a/1"]
    assert FolderImages(root=str(root), pattern="{id}.png").paths(ids) == [None, None, f"{root}/a/1.png"]
    (root.parent / "m.csv").write_text(
        f"objid,sample,asset_id\n1,x,../private/1\n2,x,{root.parent}/private/1\n3,x,a/1\n"
    )
    images = FolderImages(root=str(root), pattern="{id}.png", mapping=str(root.parent / "m.csv"))
    assert images.paths(["1", "2", "3"]) == [None, None, f"{root}/a/1.png"]


def test_each_band_of_fits_is_looked_at(root: Path) -> None:
    for name in ("images/1-i.fits", "images/1-r.fits", "private/1-g.fits"):
        (root.parent / name).touch()
    (root / "1-g.fits").symlink_to("../private/1-g.fits")
    (root.parent / "t.csv").write_text("id,class\n1,a\n")
    images = FitsImages(root=str(root), pattern="{id}-{band}.fits", channels=("i", "r", "g"))
    survey = CatalogSurvey(catalog=str(root.parent / "t.csv"), images=images)
    with pytest.raises(CatalogError, match=r"links lead 1 pictures out of this folder \(first: 1-g\.fits to "):
        find_pictures(survey, read_survey(survey))


@pytest.mark.parametrize(
    ("path", "folder", "inside"),
    [
        ("/a/b/c", "/a/b", True),
        ("/a/b", "/a/b/", True),
        ("/a/bc", "/a/b", False),
        ("/a/b/../c", "/a/b", False),
        ("/", "/a", False),
        ("/a", "/", True),
        ("memory://a/b/c", "memory://a/b", True),
        ("memory://a/b/../c", "memory://a/b", False),
        ("memory://a/bc", "memory://a/b", False),
        ("/a/b", "memory://a", False),
        ("file:///a/b/c", "/a/b", False),
    ],
)
def test_inside(path: str, folder: str, inside: bool) -> None:
    assert is_inside(path, folder) is inside
