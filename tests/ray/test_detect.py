"""Test the detect stage: equal content on 1 and 2 workers, and resuming.

Also test what it writes, and rejected sets.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image
from ray_tools import SILENT, killing, tiny

from raydistill.artifacts.display import open_artifact
from raydistill.errors import ArtifactIncompatible, ArtifactMissing
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.stage import curate
from raydistill.stages.detect import stage
from raydistill.stages.detect.artifact import DetectionReport
from raydistill.stages.detect.network import detect as find
from raydistill.stages.detect.specs import detection_spec
from raydistill.stages.detect.training import STATE
from raydistill.stages.simulate.stage import simulate
from raydistill.storage import Folder
from tests.unit.stages.detect.test_coco import SCHEMA
from tests.unit.stages.detect_tools import decode_mask, write_synthetic

pytestmark = pytest.mark.usefixtures("cluster")

SURVEY = ("survey.image_size=128", "curate.image_size=32")
FEW = (
    *SURVEY,
    "detect.fields={side: 64, contrast: 8.81, min_area: 12}",
    "detect.train_fields=20",
    "detect.test_fields=12",
    "detect.steps=20",
)


@pytest.fixture(scope="module")
def root(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with survey, galaxies, whole frames and a synthetic set."""
    root = tmp_path_factory.mktemp("detect")
    simulate(Plan(tiny(root, *SURVEY)), SILENT)
    galaxies = curate(Plan(tiny(root, *SURVEY)), SILENT)
    curate(Plan(tiny(root, *SURVEY, "curate.image_size=64", "curate.crop_fraction=1")), SILENT)
    write_synthetic(Folder(root / "synthetic"), galaxies)
    return root


def copied(root: Path, to: Path) -> Path:
    """Copy the curated sets of `root` to another run folder, and return it."""
    for path in (root / "tiny").glob("curated-*"):
        shutil.copytree(path, to / "tiny" / path.name)
    return to


def detected(root: Path, data: Path, *overrides: str) -> DetectionReport:
    return stage.detect(Plan(tiny(root, *FEW, *overrides, f"detect.set={data}/synthetic")), SILENT)


@pytest.fixture(scope="module")
def report(root: Path) -> DetectionReport:
    return detected(root, root, "resources.workers=1")


def test_documents_fit_the_schema_and_agree_with_the_pictures(report: DetectionReport) -> None:
    for name, count in (("train", 20), ("validation", 12), ("test", 12), ("frames", None)):
        written = report.coco(name)
        jsonschema.validate(written, SCHEMA)
        assert written["info"]["synthetic"] is (name != "frames")
        assert count is None or len(written["images"]) == count
        for annotation in written["annotations"]:
            mask = decode_mask(annotation["segmentation"])
            left, top, width, height = map(int, annotation["bbox"])
            assert mask.sum() == annotation["area"] == mask[top : top + height, left : left + width].sum()
    picture = Image.open(io.BytesIO(report.folder.read(report.coco("test")["images"][0]["file_name"])))
    assert picture.size == (64, 64)
    assert "synthetic" in picture.text["Comment"]


def test_the_splits_share_no_galaxy(report: DetectionReport) -> None:
    origins = {
        name: {annotation["galaxy"] for annotation in report.coco(name)["annotations"]} - {None}
        for name in ("train", "validation", "test")
    }
    assert all(origins.values())
    assert not origins["train"] & origins["test"]
    assert not origins["train"] & origins["validation"]
    assert not origins["validation"] & origins["test"]


def test_figures_have_intervals_and_baselines(report: DetectionReport) -> None:
    rows = report.table()
    assert (rows["low"] <= rows["value"]).all()
    assert (rows["value"] <= rows["high"]).all()
    frames = rows[rows["images"] == "frames"]
    assert set(frames["method"]) == {"detector", "photutils", "fixed box"}
    exact = rows[(rows["images"] == "fields") & (rows["method"] == "photutils")].set_index("metric")["value"]
    assert exact["recall"] > 0.4, "photutils finds most sources of the fields"
    assert report.metrics["frames"] == len(report.coco("frames")["images"])


def test_the_stored_detector_finds_what_was_recorded(report: DetectionReport) -> None:
    first = report.coco("test")["images"][0]
    picture = np.asarray(Image.open(io.BytesIO(report.folder.read(first["file_name"]))))
    (result,) = find(report.detector(), picture[None])
    recorded = [box for box in json.loads(report.folder.read("detections_test.json")) if box["image_id"] == first["id"]]
    np.testing.assert_allclose(result.scores_D, [box["score"] for box in recorded], atol=1e-4)


def test_an_existing_report_is_opened(report: DetectionReport, root: Path) -> None:
    again = open_artifact(detected(root, root).folder)
    assert isinstance(again, DetectionReport)
    assert again.manifest.content == report.manifest.content


@pytest.mark.long
def test_two_workers_give_the_same_content(report: DetectionReport, root: Path, tmp_path: Path) -> None:
    other = detected(copied(root, tmp_path), root, "resources.workers=2")
    assert other.manifest.content == report.manifest.content


def test_a_killed_trainer_resumes_from_its_checkpoint(report: DetectionReport, root: Path, tmp_path: Path) -> None:
    plan = Plan(tiny(copied(root, tmp_path), *FEW, f"detect.set={root}/synthetic"))
    folder = Path(detection_spec(plan).folder.uri)
    with killing("train_detector", lambda: (folder / STATE).exists()):
        killed = stage.detect(plan, SILENT)
    assert killed.manifest.content == report.manifest.content


def test_labelled_frames_train_and_test_the_detector(report: DetectionReport, root: Path, tmp_path: Path) -> None:
    labelled = [f"detect.labelled.{split}={report.folder.uri}/{split}.json" for split in ("train", "test")]
    few = [*labelled, "detect.labelled.limit=5", "detect.steps=10"]
    with_frames = detected(copied(root, tmp_path), root, *few)
    assert with_frames.metrics["labelled_frames"] == {"train": 5, "test": 12}
    rows = with_frames.table().set_index(["images", "method", "metric"])["value"]
    assert rows["labelled", "photutils", "recall"] == rows["fields", "photutils", "recall"], (
        "they are the same pictures"
    )
    assert 0 <= rows["labelled", "detector", "mean_average_precision"] <= 1
    truth, found = (json.loads(with_frames.folder.read(f"{name}labelled.json")) for name in ("", "detections_"))
    files = {image["id"]: image["file_name"] for image in truth["images"]}
    assert list(files.values()) == [
        image["file_name"] for image in json.loads(report.folder.read("test.json"))["images"]
    ]
    assert {row["image_id"] for row in found} <= set(files)
    assert {row["category_id"] for row in found} <= {category["id"] for category in truth["categories"]}
    alone = detected(root, root, *labelled, "detect.labelled.use=synthetic")
    assert alone.folder.sha256("detector.safetensors") == report.folder.sha256("detector.safetensors")


def test_sets_that_do_not_fit_are_rejected(root: Path, tmp_path: Path) -> None:
    galaxies = CuratedSet.open(Plan(tiny(root, *SURVEY)).curated.folder)
    write_synthetic(Folder(tmp_path / "synthetic"), galaxies, "test")
    with pytest.raises(ArtifactIncompatible, match="galaxies of its pictures are in the test split of the frames"):
        detected(root, tmp_path)
    with pytest.raises(ArtifactIncompatible, match="its frames have 32 px, and the fields 64 px"):
        detected(root, root, f"detect.frames={galaxies.folder.uri}")
    with pytest.raises(
        ArtifactMissing, match=r"curate\.crop_fraction=1 curate\.image_size=80', or give detect\.frames"
    ):
        detected(root, root, "detect.fields.side=80")
