"""Use votes as labels of experts, distilled images, baselines, up to the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ray_tools import SILENT, below, copy_of, tiny

from raydistill.config import Config
from raydistill.distillation.initial import LEAST_PROBABILITY, margin
from raydistill.galaxies.votes import PathQuestions
from raydistill.learning.dirichlet import negative_log_likelihood
from raydistill.learning.networks import build_network
from raydistill.learning.vote_likelihood import VoteLikelihood
from raydistill.pipeline.plan import Plan
from raydistill.runtime.resources import Processor
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.writer import load_vote_counts
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.stage import distill
from raydistill.stages.distill.task import DistillTask
from raydistill.stages.distill.trainer import Trainer
from raydistill.stages.evaluate.artifact import EvaluationReport
from raydistill.stages.evaluate.baselines import Baselines
from raydistill.stages.evaluate.stage import evaluate, load_split
from raydistill.stages.evaluate.training_sets import TrainingSets, load_votes
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.ensemble import load_experts
from raydistill.stages.experts.stage import experts
from raydistill.storage import Folder
from tests.private_ray import training_here

VOTES = (
    "experts.targets=votes", "distill.labels=votes", "distill.init=correct", "distill.images_per_class=2",
    "distill.iterations=6", "distill.expert_epochs=1", "evaluate.num_networks=1",
    "evaluate.baselines=[random_real,class_mean,k_center]",
)  # fmt: skip


@pytest.fixture(scope="module")
def config(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Return a run on votes that has its report."""
    config = tiny(copy_of(tiny_root, tmp_path_factory.mktemp("votes"), "survey", "curated"), *VOTES)
    with training_here():
        for run in (experts, distill, evaluate):
            run(Plan(config), SILENT)  # type: ignore[operator]
    return config


@pytest.fixture(scope="module")
def curated(config: Config) -> CuratedSet:
    return CuratedSet.open(str(below(config, "curated")))


def task(config: Config, folder: Path) -> Any:
    """Return the task of a trainer that writes to the given folder."""
    plan = Plan(config)
    return DistillTask(
        str(folder), plan.curated.folder.uri, plan.trajectories.folder.uri, config.network, config.distill,
        config.distill.resolved(), plan.distilled.seed, Processor(1, 0), memory_mb=None, checkpoint_seconds=1e9,
        extra_workers=0, max_restarts=0, tree=plan.class_tree,
    )  # fmt: skip


def test_distilled_images_keep_the_votes_of_their_initial_galaxies(config: Config, curated: CuratedSet) -> None:
    result = DistilledSet.open(str(below(config, "distilled")))
    assert torch.equal(result.selected.targets_SK, result.last.targets_SK), "labels from votes must not change"
    train = curated.load("train")
    votes = curated.probabilities("train", Plan(config).class_tree)
    rows = [int((votes == target).all(dim=1).nonzero()[0]) for target in result.last.targets_SK]
    assert train.labels_N[rows].tolist() == [k for k in range(5) for _ in range(2)]
    assert float(votes[rows].max()) < 1, "the test needs votes that disagree"


@pytest.mark.parametrize("ipc", [2, 12])
def test_initial_galaxies_are_classified_correctly_or_warned_of(config: Config, tmp_path: Path, ipc: int) -> None:
    trainer = Trainer(task(tiny(config.output, *VOTES, f"distill.images_per_class={ipc}"), tmp_path))
    store = TrajectoryStore.open(str(below(config, "trajectories")))
    labels = torch.arange(5).repeat_interleave(ipc)
    wrong = (margin(trainer.network, store.ends(), trainer.distiller.images, labels) <= 0).view(5, ipc).sum(dim=1)
    assert wrong.sum() < 5 * ipc, "the test needs experts that classify some galaxies correctly"
    short = [f"{name} ({n})" for name, n in zip(trainer.curated.class_names, wrong.tolist(), strict=True) if n]
    assert ipc == 2 or short, "the test needs a class that is too small"
    warnings = trainer.progress_update().warnings
    assert [warning.rpartition(": ")[2] for warning in warnings] == ([", ".join(short)] if short else [])
    assert not trainer.progress_update().warnings, "a warning was reported twice"


def test_votes_change_identity_and_training_of_the_experts(config: Config, tiny_root: Path) -> None:
    hard = TrajectoryStore.open(str(below(tiny(tiny_root), "trajectories")))
    soft = TrajectoryStore.open(str(below(config, "trajectories")))
    assert hard.manifest.identity != soft.manifest.identity
    assert torch.equal(hard(0, 0), soft(0, 0)), "the initial parameters must not depend on the targets"
    assert not torch.equal(hard(0, 1), soft(0, 1))


@pytest.mark.parametrize("labels", [(), ("distill.labels=soft", "distill.label_init=votes")])
def test_resumed_trainer_has_the_same_bits(config: Config, tmp_path: Path, labels: tuple[str, ...]) -> None:
    given = tiny(config.output, *VOTES, *labels)
    whole, early = (Trainer(task(given, tmp_path / name)) for name in ("whole", "stopped"))
    for _ in range(4):
        whole.step()
    for _ in range(2):
        early.step()
    early.save()
    late = Trainer(task(given, tmp_path / "stopped"))
    for _ in range(2):
        late.step()
    for name, tensor in whole.distiller.state_dict()[0].items():
        assert torch.equal(tensor, late.distiller.state_dict()[0][name]), name
    assert torch.equal(whole.current_images().targets_SK, late.current_images().targets_SK)


def test_learned_labels_can_start_from_votes(config: Config, curated: CuratedSet, tmp_path: Path) -> None:
    fixed = Trainer(task(config, tmp_path / "fixed"))
    learned = Trainer(
        task(tiny(config.output, *VOTES, "distill.labels=soft", "distill.label_init=votes"), tmp_path / "learned")
    )
    before = learned.distiller.targets().clone()
    torch.testing.assert_close(before, fixed.distiller.targets(), atol=5 * LEAST_PROBABILITY, rtol=0)
    for trainer in (fixed, learned):
        trainer.step()
    assert not torch.equal(learned.distiller.targets(), before)


def test_baselines_get_the_votes_of_their_galaxies(config: Config, curated: CuratedSet, tmp_path: Path) -> None:
    plan = Plan(config)
    result = DistilledSet.open(str(below(config, "distilled")))
    votes = load_votes(plan, result, curated)
    assert votes is not None
    train = load_split(curated, "train", result.selected.normalisation)
    baselines = Baselines(config, train, (2,) * 5, 0, Folder(str(tmp_path)), curated.manifest.content)
    images = train[0]
    for (training_set,) in TrainingSets(config.evaluate, result, baselines, None, votes).small():
        torch.testing.assert_close(training_set.targets_NK.sum(dim=1), torch.ones(10))
        for pixels, target in zip(training_set.images_NCHW, training_set.targets_NK, strict=True):
            if training_set.name in ("random_real", "k_center"):
                row = int((images == pixels).flatten(1).all(dim=1).nonzero())
                assert torch.equal(target, votes[row])
    recipe = {**result.manifest.config["distill"], "labels": "hard"}
    hard = replace(result, manifest=replace(result.manifest, config={"distill": recipe}))
    assert load_votes(plan, hard, curated) is None


COUNTS = (
    "experts.targets=counts",
    "distill.iterations=6",
    "evaluate.num_networks=1",
    "evaluate.baselines=[random_real]",
)


@pytest.mark.long
def test_experts_on_counts_are_distilled_evaluated_and_used(tiny_root: Path, tmp_path: Path) -> None:
    config = tiny(copy_of(tiny_root, tmp_path, "survey", "curated"), *COUNTS)
    for run in (experts, distill, evaluate):
        run(Plan(config), SILENT)  # type: ignore[operator]
    plan, store = Plan(config), TrajectoryStore.open(str(below(config, "trajectories")))
    curated = CuratedSet.open(str(below(config, "curated")))
    questions = PathQuestions.of(plan.class_tree)
    assert store.layout.shapes[-1] == (sum(questions.sizes),), "the last layer must have an output per answer"
    counts = torch.from_numpy(load_vote_counts(curated, "validation", plan.class_tree.tree)[:, list(questions.columns)])
    assert counts[:, : questions.sizes[0]].sum(dim=1).min() > 20, "about 44 volunteers answer the first question"
    images, _ = curated.to_torch("validation").tensors
    network = build_network(plan.expert_network, curated.num_classes, curated.summary.image_size)
    likelihood = VoteLikelihood(network, curated.num_classes, questions.sizes)
    start, end = (
        float(
            negative_log_likelihood(likelihood.concentrations(store(0, epoch), images), counts, questions.sizes).sum()
        )
        for epoch in (0, store.num_epochs)
    )
    assert end < start, "training must raise the likelihood of other galaxies' votes"
    ensemble, _ = load_experts(store.folder.uri, curated.folder.uri, "cpu", features=True)
    predicted = ensemble.predict(images)
    torch.testing.assert_close(predicted.mean_NK.sum(dim=1), torch.ones(len(images)))
    rows = EvaluationReport.open(str(below(config, "evaluation"))).runs.to_pylist()
    assert {row["network"] for row in rows if row["subject"] == "experts"} == {plan.expert_network.name}
