"""The pictures of surveys to predict.

Sources are configs, data sets, Parquet tables, folders, zips and artifacts.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raydistill.artifacts.manifest import commit
from raydistill.config import CatalogSurvey, Config, Curate
from raydistill.datasets.folder import ImageFolder
from raydistill.datasets.table import ImageTable
from raydistill.errors import ArtifactIncompatible, CatalogError
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.images import prepare
from raydistill.galaxies.pictures.mosaics import MosaicImages
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.pipeline.plan import Plan
from raydistill.stages.predict.worker import PictureSource, prepare_block
from raydistill.storage import Folder
from raydistill.surveys.levels import assume_levels
from raydistill.surveys.opening import open_survey, pictures_of_config
from raydistill.surveys.survey import SurveyPictures
from tests.mosaics import Spiral, make_wcs, write_bands

IDS = [f"g{n}" for n in range(5)]


def pixels(number: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (size, size, 3), dtype=np.uint8)


def png(number: int, size: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(number, size)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n, object_id in enumerate(IDS):
        (folder / f"{object_id}.png").write_bytes(png(n))
    return folder


def catalog(root: Path, ids: list[str], images: Any) -> CatalogSurvey:
    (root / "table.csv").write_text("id\n" + "".join(f"{i}\n" for i in ids))
    return CatalogSurvey(catalog=str(root / "table.csv"), images=images, dialect="plain")


def plan(survey: Any, **curate: Any) -> Plan:
    options = {"classes": ["a", "b"], "image_size": 16, "crop_fraction": 1.0} | curate
    return Plan(Config(name="x", survey=survey, curate=Curate(**options)))


def folder_plan(pictures: Path, **curate: Any) -> Plan:
    return plan(catalog(pictures.parent, IDS, FolderImages(root=str(pictures), pattern="{id}.png")), **curate)


def prepared(survey: SurveyPictures) -> dict[str, Any]:
    """Return object id -> prepared pixels, or the reason why there are none."""
    source = PictureSource(survey.reader, survey.images, survey.preparation)
    block = survey.objects.append_column("block", pa.array([0] * len(survey.objects), pa.int64()))
    rows = prepare_block(block, source).to_pylist()
    size = survey.preparation.image_size
    return {
        row["object_id"]: row["reason"] or np.frombuffer(row["pixels"], np.uint8).reshape(size, size, 3) for row in rows
    }


def assert_same(first: dict[str, Any], other: dict[str, Any]) -> None:
    assert list(first) == list(other)
    for object_id, values in first.items():
        np.testing.assert_array_equal(values, other[object_id], err_msg=object_id)


def test_another_survey_says_itself_where_its_galaxies_are(pictures: Path) -> None:
    experts, theirs = folder_plan(pictures), folder_plan(pictures, centre=(2.0, 0.0))
    found = pictures_of_config(experts, theirs.config)
    assert found.preparation.centre == (2.0, 0.0)
    assert found.identity != pictures_of_config(experts, experts.config).identity
    assert_same(prepared(found), prepared(pictures_of_config(theirs, theirs.config)))


def test_every_row_of_a_table_without_labels_is_an_object(pictures: Path) -> None:
    survey_plan = plan(catalog(pictures.parent, [*IDS, "absent"], FolderImages(root=str(pictures), pattern="{id}.png")))
    result = prepared(open_survey(survey_plan, None))
    assert list(result) == [*IDS, "absent"]
    assert result["absent"] == "missing"


def test_parquet_folder_and_zip_give_the_same_pictures(pictures: Path, tmp_path: Path) -> None:
    survey_plan = folder_plan(pictures)
    expected = prepared(open_survey(survey_plan, None))
    assert_same(prepared(open_survey(survey_plan, str(pictures))), expected)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in pictures.iterdir():
            archive.write(path, path.name)
    assert_same(prepared(open_survey(survey_plan, str(tmp_path / "all.zip"))), expected)
    table = pa.table({"id_str": IDS, "image": [png(n) for n in range(5)]})
    pq.write_table(table, tmp_path / "all.parquet", row_group_size=2)
    in_parquet = plan(catalog(tmp_path, IDS, ParquetImages(uri=str(tmp_path / "all.parquet"))))
    assert_same(prepared(open_survey(in_parquet, None)), expected)


def test_parquet_table_is_limited_to_the_objects_of_the_table(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"id_str": IDS, "image": [png(n) for n in range(5)]}), tmp_path / "v.parquet", row_group_size=2
    )
    survey_plan = plan(catalog(tmp_path, ["g4", "lost", "g1"], ParquetImages(uri=str(tmp_path / "v.parquet"))))
    result = prepared(open_survey(survey_plan, None))
    assert list(result) == ["g1", "g4", "lost"], "the order of the file, then those that it lacks"
    assert result["lost"] == "missing"
    np.testing.assert_array_equal(result["g4"], prepared_directly(4))


def prepared_directly(number: int) -> np.ndarray:
    from raydistill.galaxies.pictures.images import prepare

    return prepare(pixels(number), 1.0, 16)


def test_data_sets_keep_all_splits(tmp_path: Path) -> None:
    for n, name in enumerate(("a/0", "a/1", "b/0", "b/1")):
        path = tmp_path / "set" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(n, 20))
    result = prepared(
        open_survey(plan(ImageFolder(root=str(tmp_path / "set")), classes="all", min_picture_size=8), None)
    )
    assert len(result) == 4
    assert not [reason for reason in result.values() if isinstance(reason, str)]


def test_packed_data_set_is_read_in_the_order_of_its_file(tmp_path: Path) -> None:
    columns = {"image": [png(n, 20) for n in range(6)], "label": [0, 1, 0, 1, 0, 1]}
    pq.write_table(pa.table(columns), tmp_path / "train.parquet", row_group_size=4)
    survey = open_survey(
        plan(ImageTable(root=str(tmp_path / "train.parquet")), classes="all", min_picture_size=8), None
    )
    assert survey.objects["row"].to_pylist() == [0, 1, 2, 3, 0, 1]
    assert len({values.tobytes() for values in prepared(survey).values()}) == 6


def test_ids_of_a_folder_are_unique(pictures: Path) -> None:
    (pictures / "g0.jpg").write_bytes(png(9))
    (pictures / "deep").mkdir()
    (pictures / "deep" / "g0.png").write_bytes(png(8))
    (pictures / ".hidden.png").write_bytes(png(7))
    ids = open_survey(folder_plan(pictures), str(pictures)).objects["object_id"].to_pylist()
    assert ids == ["deep/g0", "g0.jpg", "g0.png", "g1", "g2", "g3", "g4"]


def test_identity_of_a_folder_changes_with_its_files(pictures: Path) -> None:
    survey_plan = folder_plan(pictures)
    before = open_survey(survey_plan, str(pictures)).identity
    assert before == open_survey(survey_plan, str(pictures)).identity
    (pictures / "g0.png").write_bytes(png(0) + b" ")
    assert open_survey(survey_plan, str(pictures)).identity != before


def test_other_sizes_are_resized_as_curate_would(pictures: Path) -> None:
    (pictures / "large.png").write_bytes(png(5, 80))
    (pictures / "small.png").write_bytes(png(6, 20))
    result = prepared(open_survey(folder_plan(pictures), str(pictures)))
    assert result["large"].shape == (16, 16, 3)
    assert result["small"] == "wrong-size", "curate.min_picture_size is 32"


def curated(folder: Folder, size: int, **config: Any) -> Folder:
    rows = pa.table({"object_id": IDS, "image": [png(n, size) for n in range(5)]})
    with folder.writing("data/split=train/label=0/part-0.parquet") as path:
        pq.write_table(rows, path, row_group_size=3)
    commit(folder, kind="curated", identity="1" * 64, config={"curate": config}, parents={}, seed=0, uris={})
    return folder


def test_curated_pictures_of_the_right_size_keep_every_pixel(pictures: Path, tmp_path: Path) -> None:
    survey_plan = folder_plan(pictures, crop_fraction=0.5)
    result = prepared(open_survey(survey_plan, curated(Folder(tmp_path / "same"), 16).uri))
    assert_same(result, {object_id: pixels(n, 16) for n, object_id in enumerate(IDS)})
    resized = prepared(open_survey(survey_plan, curated(Folder(tmp_path / "other"), 12).uri))
    assert resized["g0"].shape == (16, 16, 3)


def test_another_crop_of_a_curated_set_is_reported(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = curated(Folder(tmp_path / "c"), 16, crop_fraction=0.25)
    with caplog.at_level("WARNING", "raydistill"):
        open_survey(folder_plan(pictures), folder.uri)
    assert "has curate.crop_fraction=0.25, the experts have 1.0" in caplog.text


def deep(pictures: Path, high: int) -> None:
    for n, object_id in enumerate(IDS):
        values = np.random.default_rng(n).integers(0, high, (32, 32)).astype(np.uint16)
        Image.fromarray(values).save(pictures / f"{object_id}.png")


def test_levels_of_the_experts_are_assumed(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    deep(pictures, 1024)
    survey = open_survey(folder_plan(pictures), str(pictures))
    with caplog.at_level("INFO", "raydistill"):
        assumed, levels = assume_levels(survey, {"value_range": [0.0, 4095.0]})
    assert assumed.images.value_range == (0, 4095)  # type: ignore[union-attr]
    assert levels == {"value_range": [0.0, 4095.0]}
    assert "assumed to be that of the experts' survey: value_range=[0, 4095]" in caplog.text


def test_levels_are_chosen_from_a_sample_if_the_experts_have_none(
    pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deep(pictures, 1024)
    with caplog.at_level("WARNING", "raydistill"):
        assumed, levels = assume_levels(open_survey(folder_plan(pictures), str(pictures)), {})
    assert levels == {"value_range": [0.0, 1023.0]}
    assert assumed.images.value_range == (0, 1023)  # type: ignore[union-attr]
    assert "is assumed from a sample" in caplog.text


def test_levels_that_a_config_gives_stay(pictures: Path) -> None:
    images = FolderImages(root=str(pictures), pattern="{id}.png", value_range=(0, 2047))
    survey_plan = plan(catalog(pictures.parent, IDS, images))
    assumed, levels = assume_levels(open_survey(survey_plan, None), {"value_range": [0.0, 4095.0]})
    assert assumed.images == images
    assert not levels


def test_mosaics_are_cut_out_also_below_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spirals = [Spiral(150 + n / 200, 20.0, scale=2.0) for n in range(3)]
    write_bands(tmp_path / "tiles", "0.fits", spirals, make_wcs(150.005, 20.0, 160, 160), 160, 160)
    rows = [f"g{n},{spiral.ra},{spiral.dec}\n" for n, spiral in enumerate(spirals)]
    (tmp_path / "table.csv").write_text("id,ra,dec\n" + "".join([*rows, "far,10,20\n"]))
    monkeypatch.chdir(tmp_path)
    images = MosaicImages("tiles", ("i/*", "r/*", "g/*"), "17 arcsec", stretch=0.5)
    opened = open_survey(plan(CatalogSurvey(catalog="table.csv", images=images, dialect="plain")), None)
    monkeypatch.chdir("/")
    result = prepared(opened)
    assert result["far"] == "missing"
    sources = opened.objects["path"].to_pylist()
    for number in range(3):
        expected = prepare(images.decode(f"{tmp_path}/tiles/{sources[number]}"), 1.0, 16)
        np.testing.assert_array_equal(result[f"g{number}"], expected)


def test_surveys_that_cannot_be_predicted_are_rejected(pictures: Path, tmp_path: Path) -> None:
    survey_plan = folder_plan(pictures)
    with pytest.raises(CatalogError, match="there is no such survey"):
        open_survey(survey_plan, str(tmp_path / "nowhere"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    with pytest.raises(CatalogError, match="none of its 1 files is a picture"):
        open_survey(survey_plan, str(tmp_path / "notes"))
    (tmp_path / "fits").mkdir()
    (tmp_path / "fits" / "a.fits").write_text("x")
    with pytest.raises(CatalogError, match="neither their bands nor their stretch"):
        open_survey(survey_plan, str(tmp_path / "fits"))
    bands = plan(catalog(tmp_path, IDS, FitsImages(root=str(tmp_path / "fits"), pattern="{id}-{band}.fits")))
    with pytest.raises(CatalogError, match="one FITS file per band"):
        open_survey(bands, str(tmp_path / "fits"))
    with pytest.raises(CatalogError, match="none of its 1 objects has a picture"):
        open_survey(plan(catalog(tmp_path, ["lost"], FolderImages(root=str(pictures), pattern="{id}.png"))), None)
    folder = Folder(tmp_path / "experts")
    folder.write("layout.json", b"{}")
    commit(folder, kind="trajectories", identity="2" * 64, config={}, parents={}, seed=0, uris={})
    with pytest.raises(ArtifactIncompatible, match="set of expert trajectories, which has no pictures"):
        open_survey(survey_plan, folder.uri)
