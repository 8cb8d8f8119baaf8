"""Test the filter of damaged pictures: its rejections and its rates.

The bytes are equal on any workers.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from curate_tools import blob, curated, labels, rejected, rows_of
from PIL import Image
from ray_tools import SILENT, folder_survey, killing

from raydistill import config as configs
from raydistill.config import CatalogSurvey, PictureFilter, Resources
from raydistill.errors import CatalogError, ClusterError
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.pipeline.plan import Plan
from raydistill.simulation.defects import REASONS, show, wide_side
from raydistill.stages.curate import stage
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.decoding import decode
from raydistill.stages.curate.filter import training as filter_training
from raydistill.stages.curate.filter.network import VIEW
from raydistill.stages.curate.filter.training import FILTER

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.long]

COUNT = 150
FEW = PictureFilter(reasons=REASONS, false_rejection_rate=0.1, steps=80)
DAMAGED = [f"g{number:03d}" for number in range(5, COUNT, 30)]  # noise without a galaxy


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> CatalogSurvey:
    """Return a survey of pictures, five of which show the sky alone."""
    root = tmp_path_factory.mktemp("blobs")
    (root / "images").mkdir()
    for number, object_id in enumerate(labels(COUNT)):
        pixels = blob(number, 64)
        if object_id in DAMAGED:
            pixels = np.random.default_rng(number).normal(12, 3, pixels.shape).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{object_id}.png")
    return CatalogSurvey(**folder_survey(root, labels(COUNT), pattern="{id}.png"))


@pytest.fixture(scope="module")
def filtered(blobs: CatalogSurvey, cluster: None, tmp_path_factory: pytest.TempPathFactory) -> CuratedSet:
    return curated(tmp_path_factory.mktemp("filtered"), blobs, filter=FEW)


def report(curated: CuratedSet) -> dict[str, Any]:
    return dict(json.loads(curated.folder.read(FILTER)))


def test_pictures_without_a_galaxy_are_rejected_with_their_probability(filtered: CuratedSet) -> None:
    reasons = rejected(filtered)
    assert {reasons.get(object_id) for object_id in DAMAGED} == {"low-surface-brightness"}
    assert len(reasons) < len(DAMAGED) + 0.3 * COUNT
    rows = pq.read_table(io.BytesIO(filtered.folder.read("rejected.parquet"))).to_pylist()
    for row in rows:
        _, probability, _, limit = row["detail"].replace(",", "").split()
        assert 0.5 <= float(limit) <= float(probability) <= 1
    counts = {reason: sum(row["reason"] == reason for row in rows) for reason in REASONS}
    assert filtered.summary.rejected == {reason: count for reason, count in counts.items() if count}
    assert len(rows) + len(rows_of(filtered)) == COUNT


def test_report_counts_pictures_on_which_the_network_was_not_trained(filtered: CuratedSet) -> None:
    contents = report(filtered)
    train = sum(entry.train for entry in filtered.summary.classes)
    assert contents["pictures"] >= train
    assert set(contents["reasons"]) == set(REASONS)
    for entry in contents["reasons"].values():
        wrong, result = entry["false_rejections"], entry["found"]
        assert wrong["total"] == contents["pictures"]
        assert wrong["count"] <= 0.1 * (wrong["total"] + 2)
        assert wrong["low"] <= wrong["share"] <= wrong["high"]
        assert result["count"] == sum(kind["count"] for kind in entry["found_by_kind"].values())
    assert contents["reasons"]["low-surface-brightness"]["found"]["share"] > 0.9


def test_number_of_workers_does_not_change_the_bytes(
    blobs: CatalogSurvey, filtered: CuratedSet, tmp_path: Path
) -> None:
    """The fixture has as many workers as there are CPUs."""
    plan = Plan(configs_of(tmp_path, blobs, 1))
    again = stage.curate(plan, SILENT)
    assert again.manifest.identity == filtered.manifest.identity
    assert again.manifest.content == filtered.manifest.content


def configs_of(output: Path, survey: CatalogSurvey, workers: int) -> configs.Config:
    from curate_tools import survey_config

    return replace(survey_config(output, survey, filter=FEW), resources=Resources(workers=workers))


def test_pictures_in_a_table_give_the_same_rejections(
    blobs: CatalogSurvey, filtered: CuratedSet, tmp_path: Path
) -> None:
    import pyarrow as pa

    assert isinstance(blobs.images, FolderImages)
    paths = sorted(Path(blobs.images.root).iterdir(), reverse=True)
    rows = [{"id_str": path.stem, "image": {"bytes": path.read_bytes()}} for path in paths]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pictures.parquet")
    images = ParquetImages(uri=str(tmp_path / "pictures.parquet"))
    table = curated(tmp_path, CatalogSurvey(**folder_survey(tmp_path, labels(COUNT), images=images)), filter=FEW)
    assert rejected(table) == rejected(filtered)
    assert report(table) == report(filtered)


def test_dead_worker_and_a_killed_stage_do_not_change_the_bytes(
    blobs: CatalogSurvey, filtered: CuratedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Kill a training worker; then end the stage after training, and run it again."""
    plan = Plan(configs_of(tmp_path, blobs, 2))

    def interrupted(*arguments: Any) -> Any:
        if arguments[-1] is not None:  # the filter is trained
            raise KeyboardInterrupt
        return decode(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(stage, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt), killing("train_fold", lambda: True) as action:
            stage.curate(plan, SILENT)
    assert action.pids
    assert len(list(Path(plan.curated.folder.uri, "partial").glob("defects-[01]-*.safetensors"))) == 2

    def trained_again(*arguments: Any) -> None:
        raise AssertionError("a finished network was trained again")

    monkeypatch.setattr(filter_training.FoldRunner, "task", trained_again)
    resumed = stage.curate(plan, SILENT)
    assert resumed.manifest.content == filtered.manifest.content


def test_workers_that_no_machine_can_hold_end_the_stage(blobs: CatalogSurvey, tmp_path: Path) -> None:
    config = replace(configs_of(tmp_path, blobs, 2), resources=Resources(cpus=1000))
    with pytest.raises(ClusterError, match="one worker needs 1000 CPUs"):
        stage.curate(Plan(config), SILENT)


def test_reasons_that_are_left_out_reject_nothing(blobs: CatalogSurvey, filtered: CuratedSet, tmp_path: Path) -> None:
    few = curated(tmp_path, blobs, filter=replace(FEW, reasons=("artifact", "blended"), steps=20))
    assert set(report(few)["reasons"]) == {"artifact", "blended"}
    expected = {
        object_id: reason for object_id, reason in rejected(filtered).items() if reason in ("artifact", "blended")
    }
    assert rejected(few) == expected
    assert few.manifest.identity != filtered.manifest.identity


def test_too_few_pictures_for_the_rate_end_the_stage(blobs: CatalogSurvey, tmp_path: Path) -> None:
    what = "the filter has [0-9]+ training pictures, and a false rejection rate of 0.001 needs 2000"
    with pytest.raises(CatalogError, match=what):
        curated(tmp_path, blobs, filter=PictureFilter(false_rejection_rate=0.001))


def test_set_without_a_filter_has_no_report(blobs: CatalogSurvey, tmp_path: Path) -> None:
    plain = curated(tmp_path, blobs)
    assert FILTER not in plain.manifest.files
    assert rejected(plain) == {}
    assert plain.manifest.config["curate"]["filter"] is None


def test_defects_in_real_galaxies_are_recognised_and_clean_ones_are_kept(data_root: Path, tmp_path: Path) -> None:
    """Inject defects into whole validation and test pictures, which train nothing."""
    os.environ["RAYDISTILL_DATA"] = str(data_root)
    settings = [f"output={tmp_path}", "tracking.enabled=false", "curate.align=false", "curate.per_class=400"]
    base = configs.load("gz2_kaggle5_unaligned", settings)
    plain = stage.curate(Plan(base), SILENT)
    held_out = [row for split in ("validation", "test") for row in plain.table(split).to_pylist()]
    pictures = Path(base.survey.images.root)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    expected: dict[str, str] = {}
    for path in pictures.glob("*.jpg"):
        (damaged / path.name).symlink_to(path)
    rng = np.random.default_rng(5)
    for number, row in enumerate(held_out[::2]):  # every second one gets a defect
        reason = REASONS[number % len(REASONS)]
        whole = np.asarray(Image.open(pictures / f"{row['object_id']}.jpg").convert("RGB"))
        other = np.asarray(Image.open(pictures / f"{held_out[number]['object_id']}.jpg").convert("RGB"))
        other = np.asarray(Image.fromarray(other).resize(whole.shape[1::-1]))
        view = show(reason, whole, other, len(whole) // 2, rng).picture
        framed = whole.copy()
        first = (len(whole) - len(view)) // 2
        framed[first : first + len(view), first : first + len(view)] = view
        (damaged / f"{row['object_id']}.jpg").unlink()
        Image.fromarray(framed).save(damaged / f"{row['object_id']}.jpg", quality=95)
        expected[row["object_id"]] = reason
    survey = replace(base.survey, images=replace(base.survey.images, root=str(damaged), allow_outside=True))
    recipe = replace(
        base.curate, filter=PictureFilter(reasons=REASONS, pictures=1000, steps=1000, false_rejection_rate=0.02)
    )
    filtered = stage.curate(Plan(replace(base, survey=survey, curate=recipe, output=str(tmp_path / "b"))), SILENT)
    reasons = rejected(filtered)
    rates = {
        reason: np.mean([reasons.get(name) == reason for name, why in expected.items() if why == reason])
        for reason in REASONS
    }
    floors = {
        "low-surface-brightness": 0.9,
        "artifact": 0.5,
        "truncated-galaxy": 0.7,
        "off-centre": 0.75,
        "blended": 0.2,
    }
    assert all(rates[reason] >= floor for reason, floor in floors.items()), rates
    clean = [row["object_id"] for row in held_out if row["object_id"] not in expected]
    wrong = np.mean([name in reasons for name in clean])
    assert wrong <= 5 * 0.02 + 3 * np.sqrt(5 * 0.02 / len(clean)), wrong
    assert wide_side(VIEW, base.curate.crop_fraction) == 2 * VIEW


def ghost(number: int) -> np.ndarray:
    """Return a galaxy behind a bright ring, a defect that is not injected."""
    y, x = np.mgrid[:64, :64] - 31.5
    rng = np.random.default_rng(number)
    radius = np.hypot(x - rng.uniform(-6, 6), y - rng.uniform(-6, 6))
    ring = 90 * np.exp(-((radius - rng.uniform(9, 14)) ** 2) / 2)
    return np.clip(blob(number, 64) + ring[..., None], 0, 255).astype(np.uint8)


def test_labels_teach_the_filter_a_defect_that_is_not_injected(cluster: None, tmp_path: Path) -> None:
    ids = labels(COUNT)
    ghosts = set(list(ids)[::4])
    (tmp_path / "images").mkdir()
    for number, object_id in enumerate(ids):
        Image.fromarray(ghost(number) if object_id in ghosts else blob(number, 64)).save(
            tmp_path / "images" / f"{object_id}.png"
        )
    survey = CatalogSurvey(**folder_survey(tmp_path, ids, pattern="{id}.png"))
    table = tmp_path / "looked-at.csv"
    known = list(ids)[: COUNT // 2]
    rows = [f"{name},{'artifact' if name in ghosts else 'clean'}" for name in known]
    table.write_text("\n".join(["filename,label", *rows]))
    few = replace(FEW, reasons=("artifact",), steps=300)
    without, taught = (
        curated(tmp_path / name, survey, filter=replace(few, labels=path))
        for name, path in (("without", None), ("taught", str(table)))
    )
    unseen = [name for name in ids if name not in known]
    found = {
        name: np.mean([one in rejected(done) for one in unseen if one in ghosts])
        for name, done in (("without", without), ("taught", taught))
    }
    assert found["taught"] > found["without"] + 0.3
    wrong = np.mean([one in rejected(taught) for one in unseen if one not in ghosts])
    assert wrong < 0.3
    assert "labels" not in report(without)
    assert report(taught)["labels"]["total"] > 40
    assert report(taught)["labels"]["share"] > 0.7
    assert taught.manifest.identity != without.manifest.identity
    for text, expected in (
        ("filename,label\nx,nice", "has the label 'nice'"),
        ("filename,label\nx,clean", "none of its 1"),
    ):
        table.write_text(text)
        with pytest.raises(CatalogError, match=expected):
            curated(tmp_path / "wrong", survey, filter=replace(few, labels=str(table)))
