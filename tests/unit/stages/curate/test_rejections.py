"""Errors of a survey that lost all pictures, or all pictures of a class."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raydistill.config import CatalogSurvey, Config, Curate, Images
from raydistill.datasets.folder import ImageFolder
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.mosaics import MosaicImages
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.stages.curate.decoding import decode_row, to_table
from raydistill.stages.curate.filter.rejections import describe_rejections, fix_rejections, rejection
from raydistill.stages.curate.select.selection import select_galaxies
from raydistill.stages.curate.writer import CuratedWriter
from raydistill.storage import Folder
from raydistill.surveys.survey import Preparation

IDS = [f"{n:02d}" for n in range(24)]


def png(size: int = 40, height: int = 0, flat: bool = False) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height or size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.full_like(pixels, 9) if flat else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def sentence(root: Path, content: Callable[[int], bytes], **curate: Any) -> str:
    """Return the error of a survey of classes a and b; picture n is `content(n)`."""
    (root / "images").mkdir()
    for n, object_id in enumerate(IDS):
        (root / "images" / f"{object_id}.png").write_bytes(content(n))
    (root / "table.csv").write_text("id,class\n" + "".join(f"{i},{'ab'[n % 2]}\n" for n, i in enumerate(IDS)))
    images = FolderImages(str(root / "images"), pattern="{id}.png", value_range="full")
    survey = CatalogSurvey(catalog=str(root / "table.csv"), images=images)
    recipe = Curate(**{"classes": ("a", "b"), "image_size": 16} | curate)
    selection = select_galaxies(recipe, survey)
    writer = CuratedWriter(Folder(root / "curated"), selection, Preparation.of(recipe, images), None)
    ranks, paths = (selection.galaxies[name].to_pylist() for name in ("rank", "path"))
    rows = [
        decode_row(rank, f"{images.root}/{path}", path, images, recipe) for rank, path in zip(ranks, paths, strict=True)
    ]
    writer.add(to_table(rows))
    writer.close()
    with pytest.raises(CatalogError) as caught:
        writer.write_summary(Config(name="x", survey=survey, curate=recipe))
    return str(caught.value).replace(str(root), "ROOT")


@pytest.mark.parametrize(
    ("content", "shown", "fix"),
    [
        (b"no picture", "24 corrupt; first: 00.png (unknown picture format)", "download the damaged files again, or convert"),
        (b"<html>404</html>", "24 corrupt; first: 00.png (a web page, not the picture)", "download the pictures themselves"),
        (b"", "24 empty; first: 00.png (a file of 0 bytes)", "download the damaged files again"),
        (png()[:900], "24 truncated; first: 00.png (", "download the damaged files again"),
        (png(20), "24 wrong-size; first: 00.png (20 x 20 px, at least 32 are needed)", "lower curate.min_picture_size, or"),
        (png(40, 60), "24 wrong-size; first: 00.png (40 x 60 px, not square)", "set survey.images.fit to crop or pad, or cut"),
        (png(flat=True), "24 constant; first: 00.png (no structure: levels 9 to 9 of 255)", "set survey.images.value_range to"),
    ],
    ids=["corrupt", "web-page", "empty", "truncated", "small", "not-square", "constant"],
)  # fmt: skip
def test_all_pictures_rejected_for_one_reason(tmp_path: Path, content: bytes, shown: str, fix: str) -> None:
    text = sentence(tmp_path, lambda n: content)
    assert text.startswith(f"curate: no training galaxy in: a, b (rejected pictures: {shown}")
    assert f"; {fix}" in text
    assert text.endswith("; ROOT/curated/rejected.parquet lists them")
    assert "min_confidence" not in text


def test_pictures_of_one_class_rejected(tmp_path: Path) -> None:
    """The other class lost pictures, too, for another reason."""
    text = sentence(tmp_path, lambda n: png(20) if n % 2 else b"" if n < 10 else png(40 + n))
    assert text == (
        "curate: no training galaxy in: b (rejected pictures: 12 wrong-size; first: 01.png (20 x 20 px, at least 32 are "
        "needed)); lower curate.min_picture_size, or use larger pictures; ROOT/curated/rejected.parquet lists them"
    )


def test_advice_follows_the_commonest_reason(tmp_path: Path) -> None:
    text = sentence(tmp_path, lambda n: b"" if n < 3 else png(20) if n < 20 else png(flat=True))
    assert "rejected pictures: 17 wrong-size, 4 constant, 3 empty; first: 03.png (20 x 20 px" in text
    assert "; lower curate.min_picture_size, or use larger pictures; ROOT" in text


def test_two_reasons_that_are_equally_common_both_get_an_advice(tmp_path: Path) -> None:
    text = sentence(tmp_path, lambda n: b"" if n < 12 else png(20))
    assert (
        "; download the damaged files again, or convert them to PNG or JPEG, and lower curate.min_picture_size" in text
    )


@pytest.mark.parametrize("mapping", [None, "names.csv"])
def test_missing_pictures_are_named_beside_a_real_file(tmp_path: Path, mapping: str | None) -> None:
    for name in ("57314.jpg", "57315.jpg", "readme.txt"):
        (tmp_path / name).write_bytes(b"x")
    fix = fix_rejections(rows("missing", source="587.jpg"), FolderImages(str(tmp_path), mapping=mapping))
    assert f"there is no {tmp_path}/587.jpg, but there is {tmp_path}/57314.jpg" in fix
    assert ("survey.images.mapping" in fix) == (mapping is None)


def rows(reason: str, detail: str = "", source: str = "x/7.jpg", count: int = 3) -> list[dict[str, Any]]:
    return [rejection("7", source, reason, detail, 0)] * count


FOLDER, PARQUET, FITS = FolderImages("pictures/"), ParquetImages("p.parquet"), FitsImages("bands", pattern="{id}.fits")
MOSAIC = MosaicImages("tiles", ("i/*", "r/*", "g/*"), "8.48 R90")
SOURCES: list[tuple[Images | ImageFolder, str, str, str]] = [
    (FOLDER, "missing", "", "check survey.images.root and survey.images.pattern={id}.jpg: there is no pictures/x/7.jpg"),
    (FolderImages("pictures", path_column="file"), "missing", "",
     "check survey.images.root and survey.images.path_column=file: there is no pictures/x/7.jpg"),
    (FITS, "missing", "", "check survey.images.root and survey.images.pattern={id}.fits: there is no bands/x/7.jpg"),
    (MOSAIC, "missing", "no tile shows its position", "check survey.images.files: of 7, no tile shows its position"),
    (MOSAIC, "wrong-size", "a cut-out of 9000 x 9000 px, at most 8192 are read", "lower survey.images.size"),
    (MOSAIC, "not-finite", "all pixels", "set survey.images.fill=median, raise survey.images.max_fill, or lower curate.crop"),
    (PARQUET, "missing", "", "check survey.images.id_column: no row has the id 7"),
    (PARQUET, "missing", "no picture for this object", "fill column 'image' of survey.images.uri"),
    (ImageFolder(root="set"), "missing", "no such file", "check survey.root: there is no set/x/7.jpg"),
    (FITS, "not-finite", "all pixels", "set survey.images.fill=median, raise survey.images.max_fill, or lower curate.crop"),
    (FOLDER, "not-finite", "NaN or infinite pixels", "replace the NaN and infinite pixels"),
    (FITS, "constant", "", "set survey.images.stretch=auto, or survey.images.channels to bands with light"),
    (ImageFolder(root="set"), "corrupt", "the range of float pixels is unknown; give its value_range",
     "set survey.value_range to the display range"),
    (PARQUET, "corrupt", "pixels reach from 0 to 9, beyond 0 to 1", "set survey.images.value_range to the display range"),
    (FITS, "wrong-bands", "", "set survey.images.channels to the extensions or planes for red, green and blue"),
    (FOLDER, "wrong-bands", "", "store pictures with one or three channels"),
    (FITS, "wrong-size", "bands of shape [(2, 2), (3, 3)]", "resample the bands to one shape"),
    (FOLDER, "wrong-size", "Image size (9e9 pixels) exceeds limit", "use smaller pictures"),
    (FOLDER, "unreadable", "Permission denied", "check the permissions of the files"),
    (FOLDER, "duplicate", "the train split has the same picture: 3", "put these galaxies into the training split only"),
    (FOLDER, "a reason of the future", "", "fix them"),
]  # fmt: skip


@pytest.mark.parametrize(("images", "reason", "detail", "fix"), SOURCES)
def test_advice_names_the_keys_of_the_source(images: Any, reason: str, detail: str, fix: str) -> None:
    assert fix_rejections(rows(reason, detail), images).startswith(fix)


def test_missing_file_without_a_path_is_named_by_its_galaxy() -> None:
    assert fix_rejections(rows("missing", source=""), FOLDER).endswith("pattern={id}.jpg: 7 has no file")
    assert describe_rejections(rows("missing", source="")) == "rejected pictures: 3 missing; first: 7"


def test_label_is_not_in_the_file(tmp_path: Path) -> None:
    sentence(tmp_path, lambda n: b"")
    schema = pq.read_schema(tmp_path / "curated" / "rejected.parquet")
    assert schema.names == ["object_id", "source", "reason", "detail"]
    assert schema.field("detail").type == pa.string()
