"""The distill stage: resuming, divergence, history, handedness from JPEG to FITS."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from astropy.io import fits
from PIL import Image
from ray_tools import SILENT, TINY, below, content, copy_of, folder_survey, killing, tiny
from scipy import ndimage
from torch import Tensor
from typer.testing import CliRunner

from raydistill.artifacts.manifest import NAME
from raydistill.artifacts.tensors import write_tensors
from raydistill.cli import app
from raydistill.config import CatalogSurvey, Config, Curate, Distill, Experts, ExpertTraining, Resources, Tracking
from raydistill.distillation import initial
from raydistill.distillation.distiller import Record
from raydistill.distillation.options import Adam
from raydistill.distillation.schedule import Fixed
from raydistill.distillation.trajectories import final_parameters
from raydistill.errors import ArtifactIncompatible, DivergenceError
from raydistill.learning.architectures import ConvNet
from raydistill.learning.augment import Augmentation
from raydistill.log import progress
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.stage import curate
from raydistill.stages.distill.artifact import DistilledSet, read_images
from raydistill.stages.distill.stage import distill, record_progress
from raydistill.stages.distill.task import STATE, Validation, make_task
from raydistill.stages.distill.trainer import BEST, FINISHED, WRITTEN, ProgressUpdate, Trainer, is_finished
from raydistill.stages.experts.stage import experts
from raydistill.storage import Folder, checked
from raydistill.storage.checked import from_json, to_json
from raydistill.tracking.tracker import Run
from tests.damage import flipped
from tests.private_ray import training_here
from tests.prototype_files import read_prototypes

# Thirty iterations take some seconds: long enough to kill a worker in between.
LONG = ("distill.iterations=30", "distill.validate_every=5")
MADE_FROM = ("survey", "curated", "trajectories")


@pytest.fixture(scope="module")
def undisturbed(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = tiny(copy_of(tiny_root, tmp_path_factory.mktemp("undisturbed"), *MADE_FROM), *LONG)
    distill(Plan(config), SILENT)
    return config


def test_killed_worker_is_restarted_and_the_images_have_the_same_bits(
    tiny_root: Path, undisturbed: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny(copy_of(tiny_root, tmp_path, *MADE_FROM), *LONG)
    folder = below(config, "distilled")
    with caplog.at_level("WARNING", "raydistill"), killing("run_trainer", (folder / STATE).exists):
        distill(Plan(config), SILENT)
    assert "the worker died" in caplog.text, "the worker had finished before it was killed"
    assert content(Plan(config).distilled) == content(Plan(undisturbed).distilled)


@pytest.mark.long
def test_schedule_ends_the_run_where_it_would_have_without_a_killed_worker(
    tiny_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stops = "distill.schedule={kind: loss-weighted, patience: 20, significance: 1000}"  # no fall is so evident
    config, other = (tiny(copy_of(tiny_root, tmp_path / name, *MADE_FROM), *LONG, stops) for name in "ab")
    distill(Plan(config), SILENT)
    with caplog.at_level("INFO", "raydistill"), killing("run_trainer", (below(other, "distilled") / STATE).exists):
        distill(Plan(other), SILENT)
    assert "the worker died" in caplog.text, "the worker had finished before it was killed"
    assert "the schedule ends the distillation at iteration 20" in caplog.text
    assert "distilling: 20/20 iterations" in caplog.text
    assert content(Plan(config).distilled) == content(Plan(other).distilled)
    history = pq.read_table(below(other, "distilled") / "history.parquet").to_pydict()
    assert history["iteration"] == list(range(1, 21))
    assert history["decision"] == ["stay"] * 19 + ["stop"]


def test_history_has_every_iteration_and_validation_once(undisturbed: Config) -> None:
    folder = below(undisturbed, "distilled")
    history = pq.read_table(folder / "history.parquet").to_pydict()
    assert history["iteration"] == list(range(1, 31))
    assert set(history["expert"]) <= {0, 1, 2}
    assert all(np.isfinite(history["loss"]))
    validation = pq.read_table(folder / "validation.parquet").to_pydict()
    assert validation["iteration"] == list(range(0, 31, 5))
    chosen = json.loads((folder / "summary.json").read_text())["selected_iteration"]
    best = validation["iteration"][int(np.argmax(validation["balanced_accuracy"]))]
    assert chosen == best, "the published images must be the best on validation"
    result = DistilledSet.open(str(folder))
    assert result.selected.iteration == chosen
    assert result.last.iteration == 30


def test_only_a_folder_with_every_file_and_no_checkpoint_is_finished(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    for name in WRITTEN:
        folder.write(name, b"x")
    assert not is_finished(folder)
    checked.record(folder, FINISHED, {name: folder.sha256(name) for name in WRITTEN})
    assert is_finished(folder)
    for name in WRITTEN:
        folder.write(name, flipped(b"x", 0))
        assert not is_finished(folder)
        folder.write(name, b"x")
    folder.write(STATE, b"")
    assert not is_finished(folder)


@pytest.mark.parametrize("missing", [(NAME,), (NAME, "history.parquet")])
def test_stage_killed_before_its_manifest_has_the_same_bits(
    tiny_root: Path, undisturbed: Config, tmp_path: Path, missing: tuple[str, ...]
) -> None:
    """Kill the stage after the images, or between two files, without a checkpoint."""
    root = copy_of(Path(undisturbed.output), tmp_path, *MADE_FROM, "distilled")
    config = tiny(root, *LONG)
    for name in missing:
        (below(config, "distilled") / name).unlink()
    distill(Plan(config), SILENT)
    assert content(Plan(config).distilled) == content(Plan(undisturbed).distilled)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: folder.write(STATE, b"what a failing disk leaves"),
        lambda folder: write_tensors(folder, STATE, {"of": torch.zeros(1)}, {"another": "release"}),
    ],
    ids=["damaged", "of another version"],
)
def test_unusable_checkpoint_is_ignored_with_a_warning(
    tiny_root: Path,
    undisturbed: Config,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Folder], None],
) -> None:
    config = tiny(copy_of(tiny_root, tmp_path, *MADE_FROM), *LONG)
    spoil(Folder(str(below(config, "distilled"))))
    with caplog.at_level("WARNING", "raydistill"):
        distill(Plan(config), SILENT)
    assert "distilling starts over" in caplog.text
    assert content(Plan(config).distilled) == content(Plan(undisturbed).distilled)


DIVERGES = ("distill.image_step={kind: sgd, lr: 1e38}", "distill.validate_every=1000")


def test_divergence_is_one_sentence_and_keeps_the_last_good_checkpoint(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, *MADE_FROM)
    config = tiny(root, *DIVERGES)
    folder = below(config, "distilled")
    with pytest.raises(DivergenceError) as caught:
        distill(Plan(config), SILENT)
    message = str(caught.value)
    assert "is not finite" in message
    assert "lower distill.student_lr" in message
    assert "distill.image_step.lr" in message
    assert "\n" not in message, "the message must not contain the worker's traceback"
    assert not (folder / NAME).exists()
    state = safetensors.torch.load(checked.require(Folder(str(folder)), STATE))
    assert all(tensor.isfinite().all() for tensor in state.values()), "the checkpoint must be finite"
    assert f"the best images so far, of iteration 0, are in {folder / BEST}" in message
    best, info = read_images(Folder(str(folder)), BEST)
    assert best.iteration == 0
    assert best.display().isfinite().all()
    assert len(info["class_names"]) == 5

    answer = CliRunner().invoke(app, ["distill", str(TINY), f"output={root}", "tracking.enabled=false", *DIVERGES])
    assert answer.exit_code == 4, answer.output
    assert message in answer.output
    assert "Traceback" not in answer.output


def test_repeated_updates_of_a_resumed_worker_are_recorded_once(undisturbed: Config) -> None:
    """A resumed worker first reports everything in its checkpoint."""

    class Recorded(Run):
        def __init__(self) -> None:
            self.steps: dict[str, list[int]] = {"loss": [], "validation/balanced_accuracy": []}

        def metrics(self, values: Mapping[str, Any], step: int) -> None:
            for name in set(values) & set(self.steps):
                self.steps[name].append(step)

    def updates(first: int, last: int) -> ProgressUpdate:
        records = [Record(i, 0, 0, 1, 0.5, float("nan"), 0.01, 1.0, 3, False, "stay") for i in range(first, last + 1)]
        return ProgressUpdate(
            last, records, [Validation(i, 0.5, 0.1) for i in range(first, last + 1) if i % 2 == 0], []
        )

    run, last_seen = Recorded(), -1
    with progress(9, "distilling", "iterations") as shown:
        # The first worker reports iterations 0 to 4; the second resumes at 3 and repeats those before.
        for update in (updates(0, 0), updates(1, 4), updates(0, 3), updates(4, 6)):
            last_seen = record_progress(update, last_seen, shown, run, Plan(undisturbed).distilled)
    assert run.steps["loss"] == list(range(7))
    assert run.steps["validation/balanced_accuracy"] == [0, 2, 4, 6]


def test_class_means_get_the_learning_rate_of_real_images(tiny_root: Path, tmp_path: Path) -> None:
    """Use the rate of real images: a rate chosen on class means is too large later.

    Class means are alike and move a student little.
    """

    def trainer(init: str) -> Trainer:
        plan = Plan(tiny(tiny_root, f"distill.init={init}", "distill.student_lr=auto"))
        return Trainer(make_task(plan, CuratedSet.open(plan.curated.folder), Run(), 1, Folder(str(tmp_path / init))))

    means, real = trainer("mean").distiller, trainer("real").distiller
    assert float(means.student_lrs) == pytest.approx(float(real.student_lrs), rel=0.3)
    chosen_lr = float(means.student_lrs)
    means.begin(means.images[None])
    assert float(means.student_lrs) > 1.1 * chosen_lr


def test_initial_images_of_tgdd_come_from_the_stored_experts(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initial, "DM_ITERATIONS", 20)

    def images(init: str) -> Tensor:
        plan = Plan(tiny(tiny_root, f"distill.init={init}"))
        task = make_task(plan, CuratedSet.open(plan.curated.folder), Run(), 1, Folder(str(tmp_path / init)))
        return Trainer(task).distiller.images

    new_networks, of_experts = images("dm"), images("tgdd")
    assert of_experts.isfinite().all()
    assert not torch.equal(new_networks, of_experts)


@pytest.mark.parametrize(
    ("recipe", "expected"), [(("init=real",), False), (("init=correct",), True), (("labels=soft",), True)]
)
def test_final_parameters_of_experts_are_read_only_if_the_recipe_needs_them(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: tuple[str, ...], expected: bool
) -> None:
    """For a thousand experts in a bucket they are gigabytes."""
    read = []
    monkeypatch.setattr(
        f"{Trainer.__module__}.final_parameters", lambda store: read.append(store) or final_parameters(store)
    )
    plan = Plan(tiny(tiny_root, *(f"distill.{words}" for words in recipe)))
    Trainer(make_task(plan, CuratedSet.open(plan.curated.folder), Run(), 1, Folder(str(tmp_path))))
    assert bool(read) == expected


@pytest.mark.parametrize(("stage", "made_from"), [(distill, MADE_FROM), (experts, ("survey", "curated"))])
def test_empty_validation_split_is_rejected(
    tiny_root: Path, tmp_path: Path, stage: Callable[..., object], made_from: tuple[str, ...]
) -> None:
    config = tiny(copy_of(tiny_root, tmp_path, *made_from))
    folder = Folder(str(below(config, "curated")))
    summary, manifest = json.loads(folder.read("summary.json")), from_json(folder.read(NAME))
    for entry in summary["classes"]:
        entry["validation"] = 0
    folder.write("summary.json", json.dumps(summary).encode())
    size = folder.size("summary.json")
    manifest["files"]["summary.json"] = {"sha256": folder.sha256("summary.json"), "bytes": size}
    folder.write(NAME, to_json(manifest))
    with pytest.raises(
        ArtifactIncompatible, match=r"the validation split holds no galaxy; enlarge its part in curate\.split"
    ):
        stage(Plan(config), SILENT)


def test_fits_header_has_seed_and_pixel_scale(tiny_root: Path) -> None:
    _, header = read_prototypes(below(tiny(tiny_root), "distilled") / "prototypes.fits")
    assert header["SEED"] == 3, "the run's root seed"
    assert header["PIXSCALE"] == pytest.approx(4.24 / 16), "half of a picture of 8.48 R90 on 16 pixels"


# The handedness of a spiral is physical: it must survive from the JPEG to the FITS file.


def spiral(winding: int, turn: float, size: int = 96) -> np.ndarray:
    """Return an image, uint8 [size, size, 3], of two logarithmic arms.

    `winding` is as seen with row 0 at the top.
    """
    row, column = np.mgrid[:size, :size] - (size - 1) / 2
    radius, angle = np.hypot(row, column) + 1e-9, np.arctan2(-row, column)  # the angle grows anticlockwise
    arms = 1 + 0.9 * np.cos(2 * angle - 4.0 * winding * np.log(radius) + turn)
    light = 150 * np.exp(-radius / (size / 6)) * arms + 8
    return np.clip(light[..., None] * np.array([1.0, 0.9, 0.8]), 0, 255).astype(np.uint8)


def winding(image: np.ndarray) -> int:
    """Return +1 or -1: the phase of the two-armed mode grows or falls with the radius.

    Row 0 is at the top.
    """
    grey = np.asarray(image, dtype=float).reshape(*image.shape[:2], -1).mean(axis=2)
    size = len(grey)
    row, column = np.mgrid[:size, :size] - (size - 1) / 2
    radius, angle = np.hypot(row, column), np.arctan2(-row, column)
    edges = np.geomspace(size / 10, size / 2.2, 9)
    phases = []
    for inner, outer in itertools.pairwise(edges):
        ring = (radius >= inner) & (radius < outer)
        phases.append(np.angle((grey[ring] * np.exp(2j * angle[ring])).sum()))
    return int(np.sign(np.polyfit(np.log(edges[:-1]), np.unwrap(phases), 1)[0]))


def test_winding_changes_sign_when_mirrored() -> None:
    for sense in (1, -1):
        for turn in (0.0, 1.3, 2.9):
            assert winding(spiral(sense, turn)) == sense
            assert winding(spiral(sense, turn)[:, ::-1]) == -sense, "a mirror image winds the other way"
            assert winding(spiral(sense, turn)[::-1]) == -sense
            assert winding(np.rot90(spiral(sense, turn))) == sense


SENSES = {"anticlockwise": 1, "clockwise": -1}


def spirals(root: Path) -> Config:
    """Return a run on spirals, with a class for each handedness.

    It publishes one unchanged galaxy per class.
    """
    (root / "images").mkdir(parents=True)
    labels = {f"{name}{n}": name for name in SENSES for n in range(20)}
    for number, (object_id, name) in enumerate(labels.items()):
        picture = Image.fromarray(spiral(SENSES[name], 0.7 * number))
        picture.save(root / "images" / f"{object_id}.jpg", quality=95)
    (root / "tree.yaml").write_text("name: senses\nclasses: [anticlockwise, clockwise]\n")
    upright = Augmentation()
    return Config(
        name="spirals",
        output=str(root / "runs"),
        survey=CatalogSurvey(**folder_survey(root, labels)),
        curate=Curate(classes=str(root / "tree.yaml"), image_size=32, crop_fraction=1.0, split=(0.6, 0.2, 0.2)),
        network=ConvNet(depth=2, width=4),
        experts=Experts(1, ExpertTraining(epochs=1, batch_size=8, augmentation=upright)),
        distill=Distill(
            iterations=1, student_steps=1, image_step=Adam(lr=1e-9), augmentation=upright, schedule=Fixed(max_start_epoch=0),
            validation_networks=1, validation_epochs=1,
        ),
        resources=Resources(distill_cpus=1),
        tracking=Tracking(enabled=False),
    )  # fmt: skip


def tiles(png: Path, count: int) -> list[np.ndarray]:
    """Return the images of a grid, top to bottom: its largest non-background areas."""
    grid = np.asarray(Image.open(png).convert("RGB"))
    areas, _ = ndimage.label((grid != grid[0, 0]).any(axis=2))
    boxes = sorted(ndimage.find_objects(areas), key=lambda box: -np.prod([s.stop - s.start for s in box]))[:count]
    return [grid[box] for box in sorted(boxes, key=lambda box: box[0].start)]


def test_spiral_keeps_its_handedness_from_jpeg_to_fits(cluster: None, tmp_path: Path) -> None:
    config = spirals(tmp_path)
    for object_id in ("anticlockwise0", "clockwise0"):
        jpeg = np.asarray(Image.open(tmp_path / "images" / f"{object_id}.jpg"))
        assert winding(jpeg) == SENSES[object_id[:-1]]

    curated = curate(Plan(config), SILENT)
    for split in ("train", "test"):
        for row in curated.table(split).to_pylist():
            png = np.asarray(Image.open(io.BytesIO(row["image"])))
            assert winding(png) == SENSES[row["class_name"]], f"{row['object_id']} was mirrored in curation"
    train = CuratedSet.open(curated.folder).load("train")
    assert {winding(image.numpy()) for image in train.images_NHWC[train.labels_N == 0]} == {1}

    with training_here():
        experts(Plan(config), SILENT)
    result = distill(Plan(config), SILENT)
    folder = below(config, "distilled")
    senses = list(SENSES.values())
    assert result.class_names == list(SENSES)
    assert [winding(image.numpy()) for image in result.selected.display()] == senses
    assert [winding(tile) for tile in tiles(folder / "grid.png", 2)] == senses, "grid.png mirrors the images"
    assert [winding(image) for image in read_prototypes(folder / "prototypes.fits")[0]] == senses
    with fits.open(folder / "prototypes.fits") as hdus:
        # DS9 draws the first row of an array at the bottom.
        as_ds9_shows = [np.moveaxis(hdu.data, 0, -1)[::-1] for hdu in hdus if hdu.name == "PROTO"]
    assert [winding(image) for image in as_ds9_shows] == senses
