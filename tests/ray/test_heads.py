"""Distil for heads on the experts' features, resume, and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ray_tools import SILENT, TINY, below, copy_of, tiny

from raydistill.config import Config
from raydistill.errors import ArtifactMissing
from raydistill.exporting.verify import verify
from raydistill.pipeline.plan import Plan
from raydistill.runtime.resources import Processor
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.stage import distill
from raydistill.stages.distill.task import DistillTask
from raydistill.stages.distill.trainer import Trainer
from raydistill.stages.evaluate.artifact import HEAD, EvaluationReport
from raydistill.stages.evaluate.stage import evaluate
from tests.private_ray import training_here
from tests.unit.stages.sample_tools import write_generator

HEADS = (
    "distill.objective={kind: ridge, per_class: 8}", "distill.space={kind: components, components: 20}",
    "distill.iterations=6", "distill.validate_every=3", "distill.expert_epochs=1", "distill.student_steps=2",
    "evaluate.num_networks=1", "evaluate.baselines=[random_real,class_mean]",
)  # fmt: skip


@pytest.fixture(scope="module")
def config(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Return a run for heads that has its report."""
    root = copy_of(tiny_root, tmp_path_factory.mktemp("heads"), "survey", "curated", "trajectories")
    config = tiny(root, *HEADS)
    for run in (distill, evaluate):
        run(Plan(config), SILENT)  # type: ignore[operator]
    return config


def task(config: Config, folder: Path) -> Any:
    plan = Plan(config)
    return DistillTask(
        str(folder), plan.curated.folder.uri, plan.trajectories.folder.uri, config.network, config.distill,
        config.distill.resolved(), plan.distilled.seed, Processor(1, 0), memory_mb=None, checkpoint_seconds=1e9,
        extra_workers=0, max_restarts=0, tree=None,
    )  # fmt: skip


def test_images_have_values_of_pictures_and_no_learning_rate(config: Config) -> None:
    made = DistilledSet.open(str(below(config, "distilled")))
    pixels = made.last.pixels()
    assert -1e-6 <= float(pixels.min()) <= float(pixels.max()) <= 1 + 1e-6
    assert not len(made.selected.student_lrs)
    assert not torch.equal(made.last.images_SCHW, made.initial.images_SCHW)
    assert made.residual(last=True).mean_SHWC.shape == pixels.shape


@pytest.mark.parametrize("changed", [(), ("distill.images_per_class=3", "distill.allocation=frequency")])
def test_resumed_trainer_has_the_same_bits(config: Config, changed: tuple[str, ...], tmp_path: Path) -> None:
    config = tiny(config.output, *HEADS, *changed)
    whole, early = (Trainer(task(config, tmp_path / name)) for name in ("whole", "stopped"))
    for _ in range(4):
        whole.step()
    for _ in range(2):
        early.step()
    early.save()
    late = Trainer(task(config, tmp_path / "stopped"))
    for _ in range(2):
        late.step()
    assert torch.equal(whole.current_images().images_SCHW, late.current_images().images_SCHW)
    assert whole.validations == late.validations


def test_evaluation_compares_heads_of_every_expert(config: Config) -> None:
    report = EvaluationReport.open(str(below(config, "evaluation")))
    heads = [row for row in report.runs.to_pylist() if row["protocol"] == HEAD]
    experts = config.experts.num_experts
    subjects = {"distilled", "distilled_last", "random_real", "class_mean", "nearest_feature", "full_data_head"}
    found = {row["subject"] for row in heads}
    assert subjects - {"distilled_last"} <= found <= subjects
    assert len(heads) == experts * len(found)
    assert report.summary["distilled"]["balanced_accuracy"]["n"] == experts
    assert report.summary["class_mean"]["difference"]["mean"] is not None
    assert "full_data_head" in repr(report)


def test_every_class_is_learned_better_than_by_chance(config: Config) -> None:
    summary = EvaluationReport.open(str(below(config, "evaluation"))).summary
    assert summary["full_data_head"]["balanced_accuracy"]["mean"] > 1.5 / len(summary["distilled"]["per_class"])


def test_images_may_be_noised_states_of_the_generator(config: Config, tmp_path: Path) -> None:
    root = copy_of(Path(config.output), tmp_path, "survey", "curated", "trajectories")
    changed = "distill.space={kind: generator, steps: 2, strength: 0.4}"
    others = [override for override in HEADS if not override.startswith("distill.space")]
    plan = Plan(tiny(root, *others, changed, "distill.objective.shrinkage=0"))
    with pytest.raises(ArtifactMissing, match="there is no generator here"):
        distill(plan, SILENT)
    write_generator(plan, "class")
    made = distill(plan, SILENT)
    assert "generator" in made.manifest.parents
    pixels = made.last.pixels()
    assert -1e-6 <= float(pixels.min()) <= float(pixels.max()) <= 1 + 1e-6
    assert not torch.equal(made.last.images_SCHW, made.initial.images_SCHW)


def test_heads_may_begin_with_samples_of_the_generator(config: Config, tmp_path: Path) -> None:
    root = copy_of(Path(config.output), tmp_path, "survey", "curated", "trajectories")
    plan = Plan(tiny(root, *HEADS, "distill.init=samples", "generate.sampling={steps: 2}"))
    write_generator(plan, "class")
    made = distill(plan, SILENT)
    assert "generator" in made.manifest.parents
    assert not torch.equal(made.initial.images_SCHW, DistilledSet.open(below(config, "distilled")).initial.images_SCHW)


def test_set_is_verified_by_heads_alone(config: Config) -> None:
    groups = "evaluate.groups={columns: [redshift], bins: 2, min_galaxies: 2}"  # heads have none
    words = (*HEADS, f"output={config.output}", "tracking.enabled=false", "evaluate.from_scratch=false", groups)
    with training_here():
        verified = verify(str(below(config, "distilled")), str(TINY), words)
    assert verified.found.n == config.experts.num_experts
    assert verified.published is None
