"""Test the curate stage: pixels, files, rejected pictures, and reproducible bytes."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import ray
from curate_tools import CLASSES, SIZE, blob, curated, labels, picture, pixels, rejected, rows_of, survey_config
from PIL import Image
from ray.util.annotations import RayDeprecationWarning
from ray_tools import SILENT, folder_survey

from raydistill.config import CatalogSurvey, Config
from raydistill.errors import ArtifactIncompatible, CatalogError, ClusterError
from raydistill.galaxies.pictures.images import prepare
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.galaxies.selection import SPLITS, assign_splits
from raydistill.learning.augment import Augmentation
from raydistill.pipeline.plan import Plan
from raydistill.runtime import ray_data
from raydistill.runtime.stages import require_classes
from raydistill.stages.curate import decoding, stage, writer
from raydistill.stages.curate.artifact import SCHEMA, CuratedSet

pytestmark = pytest.mark.usefixtures("cluster")


def mirrored(config: Config) -> Config:
    """Return a config with the augmentation that aligned galaxies need."""

    def with_mirror(settings: Any) -> Any:
        return replace(settings, augmentation=Augmentation(("mirror",)))

    experts = replace(config.experts, training=with_mirror(config.experts.training))
    protocols = {
        name: replace(protocol, training=with_mirror(protocol.training))
        for name, protocol in config.evaluate.protocols.items()
    }
    evaluate = replace(config.evaluate, protocols=protocols, full_data=with_mirror(config.evaluate.full_data))
    return replace(config, experts=experts, distill=with_mirror(config.distill), evaluate=evaluate)


def data_folder(curated_set: CuratedSet) -> Path:
    return Path(curated_set.folder.uri) / "data"


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> CatalogSurvey:
    """Return a survey of 80 valid pictures in a folder."""
    root = tmp_path_factory.mktemp("blobs")
    (root / "images").mkdir()
    for number, object_id in enumerate(labels(80)):
        (root / "images" / f"{object_id}.jpg").write_bytes(picture(number))
    return CatalogSurvey(**folder_survey(root, labels(80)))


@pytest.fixture(scope="module")
def blobs_curated(blobs: CatalogSurvey, cluster: None, tmp_path_factory: pytest.TempPathFactory) -> CuratedSet:
    return curated(tmp_path_factory.mktemp("curated"), blobs)


def test_picture_that_kills_its_worker_ends_the_stage_with_an_error(
    blobs: CatalogSurvey, cluster: None, tmp_path: Path
) -> None:
    """Ray Data alone would restart the worker without limit."""
    assert isinstance(blobs.images, FolderImages)

    class Deadly(FolderImages):
        def decode(self, content: bytes) -> np.ndarray:
            if hashlib.sha256(content).hexdigest() == deadly:
                os._exit(1)
            return super().decode(content)

    deadly = hashlib.sha256(Path(blobs.images.root, "g007.jpg").read_bytes()).hexdigest()
    images = Deadly(**{field.name: getattr(blobs.images, field.name) for field in fields(blobs.images)})
    with pytest.raises(ClusterError, match="a worker died too often"):
        curated(tmp_path, replace(blobs, images=images))


class Collect(logging.Handler):
    """Collect the messages of a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def fail_on_logged_deprecation() -> Iterator[None]:
    """Fail on a deprecation that Ray logs; pytest fails on those of `warnings`."""
    logger, handler = logging.getLogger("ray.data._internal.util"), Collect()
    level = logger.level
    logger.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert not [message for message in handler.messages if "deprecated" in message]


def parquet_survey(blobs: CatalogSurvey, root: Path) -> CatalogSurvey:
    """Return a survey of the same pictures in one Parquet file."""
    assert isinstance(blobs.images, FolderImages)
    rows = [
        {"id_str": path.stem, "image": {"bytes": path.read_bytes()}}
        for path in sorted(Path(blobs.images.root).iterdir())
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "pictures.parquet")
    return CatalogSurvey(**folder_survey(root, labels(80), images=ParquetImages(uri=str(root / "pictures.parquet"))))


@pytest.mark.parametrize("storage", [pytest.param("folder", marks=pytest.mark.long), "parquet"])
def test_curating_raises_no_deprecation_warning_of_ray(blobs: CatalogSurvey, tmp_path: Path, storage: str) -> None:
    """`ray_data.ACCEPTED_DEPRECATIONS` lists the exceptions with their reasons."""
    survey = blobs if storage == "folder" else parquet_survey(blobs, tmp_path)
    with fail_on_logged_deprecation():
        curated(tmp_path, survey)


@pytest.mark.parametrize("message", ray_data.ACCEPTED_DEPRECATIONS)
def test_an_accepted_deprecation_is_still_raised_by_ray(
    blobs: CatalogSurvey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    monkeypatch.setattr(ray_data, "ACCEPTED_DEPRECATIONS", {})
    with fail_on_logged_deprecation(), pytest.raises(RayDeprecationWarning, match=re.escape(message)):
        curated(tmp_path, blobs)


def test_every_galaxy_is_stored_once_with_its_own_pixels(blobs: CatalogSurvey, blobs_curated: CuratedSet) -> None:
    assert isinstance(blobs.images, FolderImages)
    rows = rows_of(blobs_curated)
    assert sorted(row["object_id"] for row in rows) == sorted(labels(80))
    for row in rows:
        assert row["class_name"] == labels(80)[row["object_id"]] == CLASSES[row["label"]]
        content = Path(blobs.images.root, f"{row['object_id']}.jpg").read_bytes()
        assert row["source"]["sha256"] == hashlib.sha256(content).hexdigest()
        expected = prepare(blobs.images.decode(content), 0.5, SIZE)
        np.testing.assert_array_equal(pixels(row["image"]), expected, err_msg=row["object_id"])


def test_galaxies_are_aligned_on_request(blobs: CatalogSurvey, blobs_curated: CuratedSet, tmp_path: Path) -> None:
    assert isinstance(blobs.images, FolderImages)
    config = mirrored(survey_config(tmp_path, blobs, align=True))
    aligned = stage.curate(Plan(config), SILENT)
    assert (blobs_curated.summary.aligned, aligned.summary.aligned) == (False, True)
    num_changed = 0
    for row, original_row in zip(rows_of(aligned), rows_of(blobs_curated), strict=True):
        original = blobs.images.decode(Path(blobs.images.root, f"{row['object_id']}.jpg").read_bytes())
        np.testing.assert_array_equal(pixels(row["image"]), prepare(original, 0.5, SIZE, align=True))
        num_changed += row["image"] != original_row["image"]
    assert num_changed > 40


def test_statistics_are_computed_from_the_training_pixels(blobs_curated: CuratedSet) -> None:
    train = blobs_curated.load("train").images_NHWC.numpy().reshape(-1, 3) / 255
    np.testing.assert_allclose(blobs_curated.summary.mean, train.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(blobs_curated.summary.std, train.std(axis=0), rtol=1e-10)
    everything = np.concatenate([blobs_curated.load(s).images_NHWC.numpy().reshape(-1, 3) / 255 for s in SPLITS])
    assert abs(everything.mean() - train.mean()) > 1e-9, "the other splits have the same mean: this test proves nothing"


def test_pandas_and_pyarrow_read_the_files(blobs_curated: CuratedSet) -> None:
    folder = data_folder(blobs_curated)
    for split in SPLITS:
        table = blobs_curated.table(split)
        frame = pd.read_parquet(folder / f"split={split}").sort_values("object_id")
        assert frame["object_id"].tolist() == table["object_id"].to_pylist()
        assert frame["label"].astype(int).tolist() == table["label"].to_pylist()
        np.testing.assert_array_equal(pixels(frame["image"].iloc[0]), pixels(table["image"][0].as_py()))
    whole = ds.dataset(folder, partitioning="hive").to_table()
    assert len(whole) == 80
    assert set(SCHEMA.names) | {"split", "label"} == set(whole.column_names)
    for path in sorted(folder.rglob("*.parquet")):
        ids = pq.read_table(path, columns=["object_id"], partitioning=None)["object_id"].to_pylist()
        assert ids == sorted(ids), f"{path.name} is not sorted"


def test_block_size_does_not_change_the_bytes(
    blobs: CatalogSurvey, blobs_curated: CuratedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "ROWS_PER_BLOCK", 7)
    again = curated(tmp_path, blobs)
    assert again.manifest.content == blobs_curated.manifest.content
    assert again.manifest.identity == blobs_curated.manifest.identity


def test_full_object_store_does_not_change_the_bytes(
    blobs: CatalogSurvey, blobs_curated: CuratedSet, tmp_path: Path
) -> None:
    """Objects of the driver fill the store; Ray spills them to disk."""
    held = [ray.put(np.full(10 * 2**20, number, np.uint8)) for number in range(12)]  # the store has 100 MB
    again = curated(tmp_path, blobs)
    assert again.manifest.content == blobs_curated.manifest.content
    assert all(int(ray.get(reference)[0]) == number for number, reference in enumerate(held))


def test_folder_of_the_survey_does_not_change_the_rows(
    blobs: CatalogSurvey, blobs_curated: CuratedSet, tmp_path: Path
) -> None:
    shutil.copytree(Path(blobs.catalog).parent, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "images" / "g013.jpg").unlink()
    moved = curated(tmp_path, CatalogSurvey(**folder_survey(tmp_path / "elsewhere", labels(80))))
    expected = {row["object_id"]: row for row in rows_of(blobs_curated) if row["object_id"] != "g013"}
    assert {row["object_id"]: row for row in rows_of(moved)} == expected
    assert str(tmp_path) not in str(pq.read_table(io.BytesIO(moved.folder.read("rejected.parquet"))).to_pylist())


def test_row_groups_are_filled_across_batches(
    blobs: CatalogSurvey, blobs_curated: CuratedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "ROWS_PER_BLOCK", 3)
    monkeypatch.setattr(writer, "ROWS_PER_GROUP", 4)
    again = curated(tmp_path, blobs)
    assert rows_of(again) == rows_of(blobs_curated)
    for path in data_folder(again).rglob("*.parquet"):
        metadata = pq.ParquetFile(path).metadata
        groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        assert all(size == 4 for size in groups[:-1]), f"{path}: {groups}"
        assert 1 <= groups[-1] <= 4


def test_per_class_and_balance_keep_a_subset_in_the_same_splits(
    blobs: CatalogSurvey, blobs_curated: CuratedSet, tmp_path: Path
) -> None:
    split_by_id = {row["object_id"]: split for split in SPLITS for row in blobs_curated.table(split).to_pylist()}
    ids = sorted(split_by_id)
    assert split_by_id == dict(zip(ids, assign_splits(ids, (0.6, 0.2, 0.2)), strict=True))
    for per_class, ranked in ((14, set()), (7, {"round"})):  # the hash gives no test galaxy to seven of `round`
        few = curated(tmp_path / str(per_class), blobs, per_class=per_class)
        assert [entry.kept for entry in few.summary.classes] == [per_class] * 5
        assert [entry.candidates for entry in few.summary.classes] == [16] * 5
        rows = [(split, row) for split in SPLITS for row in few.table(split).to_pylist()]
        moved = {row["class_name"] for split, row in rows if split_by_id[row["object_id"]] != split}
        assert moved == ranked
        assert all(min(entry.train, entry.validation, entry.test) > 0 for entry in few.summary.classes)
    unbalanced = blobs_with(blobs, {i: c for i, c in labels(80).items() if c != "cigar" or i < "g050"}, tmp_path)
    balanced = curated(tmp_path / "balanced", unbalanced, balance=True)
    assert [entry.kept for entry in balanced.summary.classes] == [10] * 5
    assert [entry.candidates for entry in balanced.summary.classes] == [16, 16, 10, 16, 16]


def blobs_with(blobs: CatalogSurvey, labelled: dict[str, str], root: Path) -> CatalogSurvey:
    """Return a survey of the same pictures with other labels."""
    return CatalogSurvey(**folder_survey(root, labelled, images=blobs.images))


def test_class_without_a_training_galaxy_raises(blobs: CatalogSurvey, tmp_path: Path) -> None:
    survey = blobs_with(blobs, {i: c for i, c in labels(80).items() if c != "spiral"}, tmp_path)
    with pytest.raises(CatalogError, match="no training galaxy in: spiral"):
        curated(tmp_path, survey)


def two_for_training(name: str) -> list[str]:
    """Return ids of two galaxies of this class that the hash assigns to training."""
    ids = [i for i, c in labels(80).items() if c == name]
    return [i for i in ids if assign_splits([i], (0.6, 0.2, 0.2))[0] == "train"][:2]


def test_class_that_a_split_lacks_is_logged(
    blobs: CatalogSurvey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    named = {i: c for i, c in labels(80).items() if c != "spiral" or i in two_for_training("spiral")}
    curated(tmp_path, blobs_with(blobs, named, tmp_path))
    for split in ("validation", "test"):
        assert f"the {split} split has no galaxy of: spiral; balanced accuracy is that of the other" in caplog.text


# A bad picture is rejected; the other pictures of its block are kept.

BAD: dict[str, tuple[str, Callable[[Path], object]]] = {
    "g003": ("corrupt", lambda p: p.write_bytes(b"<html>404 Not Found</html>" * 9)),
    "g010": ("truncated", lambda p: p.write_bytes(picture(10)[:400])),
    "g017": ("empty", lambda p: p.write_bytes(b"")),
    "g024": ("constant", lambda p: Image.new("RGB", (48, 48), (9, 9, 9)).save(p)),
    "g031": ("wrong-size", lambda p: Image.fromarray(blob(31, 24)).save(p)),
    "g038": ("wrong-size", lambda p: Image.fromarray(blob(38, 96)[:, :48]).save(p)),
    "g045": ("missing", lambda p: p.unlink()),
}


def test_bad_pictures_are_listed_with_their_reason_and_the_others_are_kept(
    blobs: CatalogSurvey, blobs_curated: CuratedSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "bad"
    (root / "images").mkdir(parents=True)
    for number, object_id in enumerate(labels(80)):
        (root / "images" / f"{object_id}.jpg").write_bytes(picture(number))
    for object_id, (_, damage) in BAD.items():
        damage(root / "images" / f"{object_id}.jpg")
    result = curated(tmp_path, CatalogSurvey(**folder_survey(root, labels(80))))
    assert rejected(result) == {object_id: reason for object_id, (reason, _) in BAD.items()}
    reasons = [reason for reason, _ in BAD.values()]
    assert result.summary.rejected == {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    expected = {row["object_id"]: row["image"] for row in rows_of(blobs_curated) if row["object_id"] not in BAD}
    assert {row["object_id"]: row["image"] for row in rows_of(result)} == expected
    with caplog.at_level("INFO", "raydistill"):
        curated(tmp_path, CatalogSurvey(**folder_survey(root, labels(80))))
    assert (
        f"{len(BAD)} pictures were rejected when this set was curated; to try them again, remove {result.folder}"
        in caplog.text
    )
    assert sum(entry.kept for entry in result.summary.classes) == 80 - len(BAD)


def test_fixed_survey_keeps_no_file_of_a_failed_attempt(blobs: CatalogSurvey, tmp_path: Path) -> None:
    """Try again in the same folder: the identity does not depend on the pictures."""
    root = tmp_path / "survey"
    (root / "images").mkdir(parents=True)
    for number, object_id in enumerate(labels(80)):
        content = b"<html>404 Not Found</html>" if CLASSES[number % 5] == "spiral" else picture(number)
        (root / "images" / f"{object_id}.jpg").write_bytes(content)
    survey = CatalogSurvey(**folder_survey(root, labels(80)))
    with pytest.raises(CatalogError, match="no training galaxy in: spiral"):
        curated(tmp_path, survey)
    for number, object_id in enumerate(labels(80)):
        path = root / "images" / f"{object_id}.jpg"
        if CLASSES[number % 5] == "spiral":
            path.write_bytes(picture(number))
        elif CLASSES[number % 5] == "round" and object_id not in two_for_training("round"):
            path.unlink()
    result = curated(tmp_path, survey)
    assert sum(result.manifest.files[name].bytes > 0 for name in result.manifest.files if "split=test" in name) == 4
    assert not [row for row in result.table("test").to_pylist() if row["class_name"] == "round"]


def test_rows_without_a_class_are_counted(
    tmp_path: Path, blobs: CatalogSurvey, caplog: pytest.LogCaptureFixture
) -> None:
    survey = tmp_path / "survey"
    (survey / "images").mkdir(parents=True)
    for number, object_id in enumerate(labels(60)):
        (survey / "images" / f"{object_id}.jpg").write_bytes(picture(number))
    labelled = {
        object_id: "-1" if number < 5 else label for number, (object_id, label) in enumerate(labels(60).items())
    }
    with caplog.at_level("INFO", "raydistill"):
        result = curated(tmp_path, CatalogSurvey(**folder_survey(survey, labelled)))
    assert result.summary.unassigned["no_label"] == 5
    assert "60 galaxies, 55 have a class (not: 5 no_label)" in caplog.text


def test_set_without_classes_holds_all_pictures_and_trains_no_experts(
    blobs: CatalogSurvey, cluster: None, tmp_path: Path
) -> None:
    ids = tmp_path / "ids.csv"
    ids.write_text("id\n" + "\n".join(labels(80)))
    unlabelled = curated(tmp_path, replace(blobs, catalog=str(ids)), classes="unlabelled")
    assert unlabelled.class_names == ["unlabelled"]
    assert sorted(row["object_id"] for row in rows_of(unlabelled)) == sorted(labels(80))
    with pytest.raises(ArtifactIncompatible, match="its galaxies have no classes"):
        require_classes(unlabelled)
