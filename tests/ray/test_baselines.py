"""The baselines of an evaluation: each is made, evaluated and stored."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ray_tools import SILENT, below, copy_of, figure_is_whole, tiny

from raydistill.artifacts.tensors import unpack_tensors
from raydistill.errors import ConfigError
from raydistill.exporting.export import export
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.stage import distill
from raydistill.stages.evaluate.baselines import Baselines
from raydistill.stages.evaluate.stage import evaluate
from raydistill.stages.generate.stage import generate
from raydistill.storage import Folder, checked
from tests.private_ray import training_here


def test_characteristic_functions_are_a_baseline(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories", "distilled")
    options = "evaluate.ncfm={iterations: 2, num_frequencies: 16, num_networks: 1, training_epochs: 1}"
    plan = Plan(tiny(root, "evaluate.baselines=[ncfm]", options, "evaluate.full_data_networks=0"))
    report = evaluate(plan, SILENT)
    assert figure_is_whole(report.summary["ncfm"]["balanced_accuracy"], 2)
    assert "dm" not in report.summary
    cached = [path.name for path in below(plan.config, "evaluation").parent.rglob("ncfm-*")]
    assert len(cached) == 1


def test_gradients_are_matched_for_two_baselines(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories", "distilled")
    options = "evaluate.dsa={iterations: 3, steps_per_network: 2, batch_size: 4}"
    plan = Plan(tiny(root, "evaluate.baselines=[dsa, idc]", options, "evaluate.full_data_networks=0"))
    report = evaluate(plan, SILENT)
    for name in ("dsa", "idc"):
        assert figure_is_whole(report.summary[name]["balanced_accuracy"], 2)
        (cached,) = below(plan.config, "evaluation").parent.rglob(f"{name}-*")
        images = unpack_tensors(checked.read(Folder(str(cached.parent)), cached.name) or b"")[0]["images"]
        assert len(images) == len(DistilledSet.open(plan.evaluated_set.folder).images) * {"dsa": 1, "idc": 4}[name]


def test_generator_draws_two_baselines(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories", "distilled")
    words = [
        "evaluate.baselines=[samples, mgd3]", "evaluate.full_data_networks=0", "generate.conditions=[class]",
        "generate.training={steps: 3, batch_size: 4, shards: 1, symmetries: none}", "generate.sampling={steps: 2}",
        "resources.workers=1",
    ]  # fmt: skip
    plan = Plan(tiny(root, *words))
    with training_here():
        generate(plan, SILENT)
    report = evaluate(plan, SILENT)
    for name in ("samples", "mgd3"):
        assert figure_is_whole(report.summary[name]["balanced_accuracy"], 2)
        assert report.cpu_seconds[name] > 0
    assert report.cpu_seconds["generator"] > 0
    assert "generator" in report.manifest.parents
    for how in ("samples", "mgd3"):
        distilled = distill(Plan(tiny(root, *words, f"distill.init={how}", "distill.iterations=1")), SILENT)
        assert "generator" in distilled.manifest.parents
        assert distilled.initial.images_SCHW.shape == distilled.last.images_SCHW.shape
        assert not torch.equal(distilled.initial.images_SCHW, distilled.last.images_SCHW)
    with pytest.raises(ConfigError, match="a generator that knows classes"):
        Plan(tiny(root, *words[1:], "distill.init=samples", "generate.conditions=[votes]"))
    with pytest.raises(ConfigError, match="a generator that knows classes"):
        Plan(tiny(root, *words, "generate.conditions=[votes]"))


def test_experts_choose_baselines(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories", "distilled")
    names = ["random_soft", "moderate", "el2n", "el2n_window", "forgetting", "rded"]
    words = [f"evaluate.baselines=[{', '.join(names)}]", "evaluate.full_data_networks=0"]
    plan = Plan(tiny(root, *words))
    report = evaluate(plan, SILENT)
    for name in names:
        assert figure_is_whole(report.summary[name]["balanced_accuracy"], 2)
    cached = {path.name.partition("-")[0] for path in below(plan.config, "evaluation").parent.rglob("*.safetensors")}
    assert set(names[1:]) <= cached
    shutil.rmtree(below(plan.config, "trajectories"))
    with pytest.raises(ConfigError, match="needs the experts"):
        evaluate(Plan(tiny(root, *words, "evaluate.num_networks=1")), SILENT)


def test_baselines_have_as_many_pixels_as_a_set_of_tiles_stores(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories")
    tiles = ("distill.images_per_class=4", "distill.multi_formation=2", "distill.iterations=2")
    plan = Plan(tiny(root, *tiles, "evaluate.baselines=[class_mean]", "evaluate.full_data_networks=0"))
    distilled = distill(plan, SILENT)
    assert set(zip(distilled.counts, distilled.stored_counts, strict=True)) == {(4, 1)}
    made: list[Baselines] = []
    monkeypatch.setattr(f"{evaluate.__module__}.Baselines", lambda *given: made.append(Baselines(*given)) or made[-1])
    report = evaluate(plan, SILENT)
    assert figure_is_whole(report.summary["class_mean"]["balanced_accuracy"], 2)
    (baselines,) = made
    assert len(baselines.images("class_mean", 0).images_SCHW) == len(distilled.class_names)
    assert len(distilled.images) == 4 * len(distilled.class_names)


def test_classes_share_the_images_by_frequency(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories")
    few = [f"evaluate.{name}.iterations=2" for name in ("dm", "ncfm", "dsa", "idc")]
    baselines = ["random_real", "class_mean", "k_center", "rded", "dm", "ncfm", "dsa", "idc"]
    shared = ("distill.images_per_class=3", "distill.allocation=frequency", "distill.iterations=2")
    config = tiny(root, *shared, *few, f"evaluate.baselines=[{','.join(baselines)}]", "evaluate.full_data_networks=0")
    distilled = distill(Plan(config), SILENT)
    train = [entry.train for entry in CuratedSet.open(Plan(config).curated.folder).summary.classes]
    assert distilled.counts == config.distill.counts(train)
    assert len(set(distilled.counts)) > 1, "the test needs classes of different sizes"
    np.testing.assert_array_equal(distilled.labels.bincount(), distilled.counts)
    np.testing.assert_array_equal(distilled.frames()[distilled.last.iteration], distilled.last.levels())
    assert distilled.selected.targets_SK.argmax(dim=1).tolist() == distilled.labels.tolist()
    report = evaluate(Plan(config), SILENT)
    for name in ("distilled", *baselines):
        assert figure_is_whole(report.summary[name]["balanced_accuracy"], 2)
    export(distilled, Folder(str(tmp_path / "pictures")), "png")
    stored = [len(list(folder.glob("*.png"))) for folder in sorted((tmp_path / "pictures").glob("0*"))]
    assert stored == list(distilled.counts)


def test_soft_labels_of_classes_by_frequency_have_scores(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories")
    shared = ("distill.images_per_class=3", "distill.allocation=frequency", "distill.iterations=2")
    words = (
        "distill.labels=soft",
        "evaluate.scores=true",
        "evaluate.full_data_networks=1",
        "evaluate.baselines=[random_real]",
    )
    plan = Plan(tiny(root, *shared, *words))
    distilled = distill(plan, SILENT)
    assert distilled.labels.bincount().tolist() == list(distilled.counts)
    summary = evaluate(plan, SILENT).summary
    assert np.isfinite(summary["distilled"]["scores"]["label_robust"]["score"])
