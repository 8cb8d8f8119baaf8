"""Test the curate stage with pictures in Parquet and FITS, and with real surveys."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from curate_tools import CLASSES, SIZE, blob, curated, labels, picture, pixels, rejected, rows_of
from ray_tools import SILENT, folder_survey

from raydistill import config as configs
from raydistill.config import CatalogSurvey
from raydistill.errors import CatalogError
from raydistill.galaxies.classes import GZ2_NINE, load_class_tree
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.images import prepare
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.galaxies.selection import SPLITS
from raydistill.galaxies.tables import open_table
from raydistill.galaxies.trees import GZ_DECALS
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate import stage

pytestmark = pytest.mark.usefixtures("cluster")

# Pictures in Parquet, as on Hugging Face.


def in_parquet(path: Path, numbers: list[int], group: int = 16) -> ParquetImages:
    rows = [{"id_str": f"g{n:03d}", "image": {"bytes": picture(n), "path": f"{n}.jpg"}} for n in numbers]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return ParquetImages(uri=str(path))


@pytest.mark.long
def test_order_of_a_parquet_file_does_not_change_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "pictures.parquet"
    present = [n for n in range(60) if n not in (4, 29, 59)]
    survey = CatalogSurvey(**folder_survey(tmp_path, labels(60), images=in_parquet(path, present)))
    first = curated(tmp_path / "a", survey)
    assert sorted(row["object_id"] for row in rows_of(first)) == [f"g{n:03d}" for n in present]
    assert rejected(first) == {"g004": "missing", "g029": "missing", "g059": "missing"}
    shuffled = np.random.default_rng(0).permutation([*present, *range(60, 75)]).tolist()
    in_parquet(path, [*shuffled, 62], group=7)  # no row of the table has this id
    again = curated(tmp_path / "b", survey)
    assert again.manifest.content == first.manifest.content


def test_repeated_ids_of_a_parquet_file_are_rejected_or_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "pictures.parquet"
    images = in_parquet(path, list(range(40)))
    survey = CatalogSurvey(**folder_survey(tmp_path, labels(40), images=images))
    expected = curated(tmp_path / "a", survey)
    others = pq.read_table(path).slice(20, 3).set_column(0, "id_str", pa.array(["g007", "g031", "g007"]))
    pq.write_table(pa.concat_tables([pq.read_table(path), others]), path, row_group_size=7)
    with pytest.raises(
        CatalogError, match=r"2 ids have several pictures in 'id_str' \(first: g007, g031\); keep one of each"
    ):
        curated(tmp_path / "b", survey)
    again = curated(tmp_path / "c", replace(survey, duplicates="first"))
    assert again.manifest.content == expected.manifest.content


@pytest.mark.long
def test_best_of_a_class_are_selected_among_the_ids_of_the_parquet_file(tmp_path: Path) -> None:
    """The table lists the whole survey; the file has a few of its pictures."""
    images = in_parquet(tmp_path / "pictures.parquet", list(range(40, 80)))
    result = curated(tmp_path, CatalogSurvey(**folder_survey(tmp_path, labels(80), images=images)), per_class=8)
    assert sorted(row["object_id"] for row in rows_of(result)) == [f"g{n:03d}" for n in range(40, 80)]
    assert set(rejected(result).values()) == {"missing"}


def test_pictures_in_a_zip_give_the_bytes_of_those_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number, object_id in enumerate(labels(40)):
        (tmp_path / "images" / f"{object_id}.jpg").write_bytes(picture(number))
    (tmp_path / "images" / "g007.jpg").write_bytes(b"no picture")
    archive = shutil.make_archive(str(tmp_path / "images"), "zip", tmp_path, "images")
    results = []
    for root in (str(tmp_path / "images"), archive):
        survey = CatalogSurvey(**folder_survey(tmp_path, labels(41), images=FolderImages(root=root)))
        results.append(curated(tmp_path / str(len(results)), survey))
    assert rejected(results[0]) == rejected(results[1]) == {"g007": "corrupt", "g040": "missing"}
    assert results[0].manifest.content == results[1].manifest.content


# Pictures at the paths of the table


def test_pictures_at_the_paths_of_the_table_are_decoded(tmp_path: Path) -> None:
    rows = ["id,label,file_loc"]
    for number, (object_id, label) in enumerate(labels(60).items()):
        folder = "other" if number % 7 == 0 else "images/a/b"
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / f"{number}.jpg").write_bytes(picture(number))
        path = f"{tmp_path}/other/{number}.jpg" if number % 7 == 0 else f"a\\b\\{number}.jpg"
        rows.append(f"{object_id},{label},{path}")
    rows.append("gone,round,a/b/gone.jpg\nempty,round,\n")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    images = FolderImages(root=str(tmp_path / "images"), path_column="file_loc", allow_outside=True)
    result = curated(tmp_path, CatalogSurvey(catalog=str(tmp_path / "t.csv"), images=images), crop_fraction=1.0)
    assert rejected(result) == {"gone": "missing", "empty": "missing"}
    assert len(rows_of(result)) == 60
    for row in rows_of(result):
        number = int(row["object_id"][1:])
        assert row["source"]["path"] == (f"{tmp_path}/other/{number}.jpg" if number % 7 == 0 else f"a/b/{number}.jpg")
        assert row["source"]["sha256"] == hashlib.sha256(picture(number)).hexdigest()
        np.testing.assert_array_equal(pixels(row["image"]), prepare(images.decode(picture(number)), 1.0, SIZE))


# FITS


def to_fits(path: Path, image: np.ndarray, names: tuple[str, str, str] = ("I", "R", "G")) -> None:
    from astropy.io import fits

    bands = [fits.ImageHDU(image[::-1, :, c].astype(np.float32) / 80, name=name) for c, name in enumerate(names)]
    fits.HDUList([fits.PrimaryHDU(), *bands]).writeto(path)


def test_fits_pictures_are_decoded_upright(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number, object_id in enumerate(labels(40)):
        to_fits(tmp_path / "images" / f"{object_id}.fits", blob(number))
    (tmp_path / "images" / "g007.fits").write_bytes((tmp_path / "images" / "g007.fits").read_bytes()[:9000])
    nan = blob(8).astype(np.float32)
    nan[3, 3, 1] = np.nan
    (tmp_path / "images" / "g008.fits").unlink()
    to_fits(tmp_path / "images" / "g008.fits", nan)
    images = FitsImages(root=str(tmp_path / "images"))
    result = curated(tmp_path, CatalogSurvey(**folder_survey(tmp_path, labels(40), images=images)), crop_fraction=1.0)
    assert rejected(result) == {"g007": "truncated", "g008": "not-finite"}
    for row in rows_of(result):
        stored = pixels(row["image"]).mean(axis=2)
        expected = prepare(blob(int(row["object_id"][1:])), 1.0, SIZE).mean(axis=2)
        upright, flipped = (np.corrcoef(stored.ravel(), other.ravel())[0, 1] for other in (expected, expected[::-1]))
        assert upright > 0.9, row["object_id"]
        assert upright > flipped, f"{row['object_id']} is upside down"


def test_one_fits_file_without_the_requested_bands_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number, object_id in enumerate(labels(40)):
        bands = ("I", "R", "Z") if number == 0 else ("I", "R", "G")
        to_fits(tmp_path / "images" / f"{object_id}.fits", blob(number), bands)
    images = FitsImages(root=str(tmp_path / "images"))
    result = curated(tmp_path, CatalogSurvey(**folder_survey(tmp_path, labels(40), images=images)))
    assert rejected(result) == {"g000": "wrong-bands"}


def test_fits_folder_without_the_requested_bands_raises(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number, object_id in enumerate(labels(10)):
        to_fits(tmp_path / "images" / f"{object_id}.fits", blob(number), ("Z", "Y", "J"))
    images = FitsImages(root=str(tmp_path / "images"))
    with pytest.raises(CatalogError, match=r"set survey\.images\.channels"):
        curated(tmp_path, CatalogSurvey(**folder_survey(tmp_path, labels(10), images=images)))


# Votes of other surveys than Galaxy Zoo 2


def test_votes_of_gz_decals_are_kept_in_the_order_of_their_tree(tmp_path: Path) -> None:
    """Write one Parquet file of ids, pictures and vote counts, as in galaxy-datasets."""
    votes = {"smooth": (9, 2, 3), "featured-or-disk": (1, 8, 7), "artifact": (0, 0, 0)}
    rows = [
        {"id_str": f"g{n:03d}", "image": {"bytes": picture(n), "path": f"{n}.jpg"}}
        | {f"smooth-or-featured-dr8_{answer}": vote[n % 3] for answer, vote in votes.items()}
        | {"disk-edge-on-dr8_yes": (0, 6, 0)[n % 3], "disk-edge-on-dr8_no": (1, 2, 7)[n % 3]}
        for n in range(45)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    (tmp_path / "disks.yaml").write_text(
        "name: disks\ntree: gz-decals\nclasses:\n  - {name: smooth, path: [smooth]}\n"
        "  - {name: edge_on, path: [featured-or-disk, disk-edge-on_yes]}\n"
        "  - {name: face_on, path: [featured-or-disk, disk-edge-on_no]}\n"
    )
    survey = CatalogSurvey(
        catalog=str(tmp_path / "train.parquet"), images=ParquetImages(uri=str(tmp_path / "train.parquet"))
    )
    result = curated(tmp_path, survey, classes=str(tmp_path / "disks.yaml"))
    assert [entry.kept for entry in result.summary.classes] == [15, 15, 15]
    assert result.summary.tree == "gz-decals"
    for row in rows_of(result):
        number = int(row["object_id"][1:]) % 3
        assert row["label"] == number
        assert len(row["votes"]) == len(GZ_DECALS.answers)
        expected = np.array([*(vote[number] / 10 for vote in votes.values()), (0, 6, 0)[number] / (1, 8, 7)[number]])
        np.testing.assert_allclose(row["votes"][:4], expected, rtol=1e-6)
        assert np.isnan(row["votes"][5:]).all()
    p = result.probabilities("train", load_class_tree(str(tmp_path / "disks.yaml")))
    np.testing.assert_allclose(p.sum(dim=1), 1, rtol=1e-6)
    assert torch.equal(p.argmax(dim=1), result.load("train").labels_N)


# Real galaxies


def test_curate_public_release_of_galaxy_zoo_2(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYDISTILL_DATA", str(data_root))
    overrides = [f"output={tmp_path}", "tracking.enabled=false", "curate.per_class=6"]
    config = configs.load(Path(__file__).parents[2] / "configs" / "gz2_hart16.yaml", overrides)
    result = stage.curate(Plan(config), SILENT)
    kept = [entry.kept for entry in result.summary.classes]
    assert len(kept) == 9
    assert max(kept) == 6
    assert all(entry.candidates >= entry.kept >= entry.train > 0 for entry in result.summary.classes)
    for entry in result.summary.classes:
        assert 0 < (entry.lowest_confidence or 0) <= 1
    assert isinstance(config.survey, CatalogSurvey)
    assert isinstance(config.survey.images, FolderImages)
    known = set(open_table(config.survey.catalog).read(["objid"], text=("objid",))["objid"].to_pylist())
    for row in rows_of(result):
        assert row["object_id"] in known, "digits of an id are missing"
        original = Path(config.survey.images.root, row["source"]["path"])
        assert hashlib.sha256(original.read_bytes()).hexdigest() == row["source"]["sha256"]
        assert pixels(row["image"]).shape == (32, 32, 3)
        votes = np.array(row["votes"], dtype=float)
        assert len(votes) == 37
        assert np.nanmin(votes) >= 0
        assert np.nanmax(votes) <= 1 + 1e-6
    for split in SPLITS:
        p = result.probabilities(split, GZ2_NINE)
        torch.testing.assert_close(p.sum(dim=1), torch.ones(len(p)))
        assert torch.equal(p.argmax(dim=1), result.load(split).labels_N)
    assert sum(result.summary.rejected.values()) == len(rejected(result))


def test_curate_real_pictures_in_a_parquet_file(data_root: Path, tmp_path: Path) -> None:
    source = pq.ParquetFile(data_root / "gz2_unlabelled.parquet")
    batch = next(source.iter_batches(40, columns=["galaxy_id", "jpeg"]))
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "pictures.parquet")
    ids = [str(galaxy) for galaxy in batch["galaxy_id"].to_pylist()]
    images = ParquetImages(uri=str(tmp_path / "pictures.parquet"), id_column="galaxy_id", image_column="jpeg")
    labelled = {object_id: CLASSES[number % 5] for number, object_id in enumerate(ids)}
    result = curated(tmp_path, CatalogSurvey(**folder_survey(tmp_path, labelled, images=images)))
    jpeg = dict(zip(ids, batch["jpeg"].to_pylist(), strict=True))
    assert sorted(row["object_id"] for row in rows_of(result)) == sorted(ids)
    for row in rows_of(result):
        expected = prepare(images.decode(jpeg[row["object_id"]]), 0.5, SIZE)
        np.testing.assert_array_equal(pixels(row["image"]), expected)
