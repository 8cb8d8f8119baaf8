"""Test the pretrain stage: equal bits with more workers, after a kill; its uses."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ray_tools import SILENT, below, content, copy_of, killing, tiny

from raydistill.artifacts.display import open_artifact
from raydistill.config import Config
from raydistill.errors import ArtifactIncompatible, ArtifactMissing, DivergenceError
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.run import run_stage, spec_of
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.feeding.worker import STATE
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.stage import distill
from raydistill.stages.evaluate.artifact import HEAD, EvaluationReport
from raydistill.stages.evaluate.stage import evaluate
from raydistill.stages.pretrain.artifact import EncoderArtifact
from raydistill.stages.pretrain.stage import pretrain
from tests.e2e import tools
from tests.private_ray import training_here

SMALL = (
    "pretrain.network={kind: pooled, widths: [8, 16], groups: 4}",
    "pretrain.training={steps: 40, batch_size: 16, shards: 2, warmup: 5, ema_decay: 0.9, projection: 8}",
    "pretrain.probe_every=20",
    "pretrain.record_every=5",
)
HEADS = (
    "distill.objective={kind: ridge, per_class: 8, encoders: [pretrain]}",
    "distill.space={kind: components, components: 20}", "distill.iterations=4", "distill.validate_every=2",
    "evaluate.from_scratch=false", "evaluate.baselines=[random_real,class_mean]",
)  # fmt: skip
MADE_FROM = ("survey", "curated")


@pytest.fixture(scope="module")
def trained(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Return the config of an encoder that one worker trained without disturbance."""
    root = copy_of(tiny_root, tmp_path_factory.mktemp("encoder"), *MADE_FROM)
    config = tiny(root, *SMALL, *HEADS, "resources.workers=1")
    with training_here():
        pretrain(Plan(config), SILENT)
    return config


def test_encoder_opens_and_describes_pictures(trained: Config) -> None:
    artifact = open_artifact(Plan(trained).encoder.folder)
    assert isinstance(artifact, EncoderArtifact)
    curated = CuratedSet.open(str(below(trained, "curated")))
    features = artifact.features(curated.load("validation").images_NHWC)
    assert features.shape == (len(curated.load("validation").labels_N), artifact.summary.num_features)
    assert torch.isfinite(features).all()
    assert "16 features of pictures 16 pixels wide, trained for 40 steps" in repr(artifact)


def test_history_has_every_record_and_measurement_once(trained: Config) -> None:
    artifact = EncoderArtifact.open(Plan(trained).encoder.folder)
    history, validation = artifact.history().to_pydict(), artifact.validation().to_pydict()
    assert history["step"] == list(range(5, 41, 5))
    assert history["images"] == [16 * step for step in history["step"]]
    assert validation["step"] == [20, 40]
    assert np.isfinite([validation["effective_rank"], validation["balanced_accuracy"]]).all()


def test_images_are_distilled_for_the_encoder_and_its_heads_are_evaluated(trained: Config) -> None:
    plan = Plan(trained)
    made = distill(plan, SILENT)
    assert "trajectories" not in made.manifest.parents
    assert made.manifest.parents["encoder_0"].identity == plan.encoder.identity
    assert not len(DistilledSet.open(made.folder).selected.student_lrs)
    report = evaluate(plan, SILENT)
    rows = EvaluationReport.open(report.folder).runs.to_pylist()
    assert {row["protocol"] for row in rows} == {HEAD}
    assert {"distilled", "class_mean", "nearest_feature", "full_data_head"} <= {row["subject"] for row in rows}


def test_members_are_trained_with_other_seeds_and_matched_together(trained: Config) -> None:
    members = "pretrain.members=[{kind: pooled, widths: [8, 16], groups: 4}, {kind: pooled, widths: [8, 8], groups: 4}]"
    plan = Plan(tiny(trained.output, *SMALL, *HEADS, "resources.workers=1", members))
    assert spec_of(plan, "pretrain").identity == plan.all_encoders[1].identity
    with training_here():
        first = run_stage("pretrain", plan)
    assert first.manifest.identity == Plan(trained).encoder.identity  # is not trained again
    assert all(spec.exists for spec in plan.all_encoders)
    assert spec_of(plan, "pretrain").identity == plan.encoder.identity
    assert len({spec.seed for spec in plan.all_encoders}) == 3
    made = distill(plan, SILENT)
    parents = [made.manifest.parents[f"encoder_{number}"].identity for number in range(3)]
    assert parents == [spec.identity for spec in plan.all_encoders]


def test_the_path_of_an_encoder_does_not_matter_but_its_identity_does(trained: Config) -> None:
    folder = Plan(trained).encoder.folder.uri
    by_path = tiny(trained.output, *SMALL, *HEADS, f"distill.objective.encoders=['{folder}']")
    assert Plan(by_path).distilled.identity == Plan(trained).distilled.identity
    other = tiny(trained.output, *SMALL, *HEADS, "pretrain.seed=9")
    assert Plan(other).distilled.identity != Plan(trained).distilled.identity


def test_a_missing_encoder_and_pictures_of_another_size_are_named(trained: Config, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match="raydistill pretrain CONFIG"):
        distill(Plan(tiny(trained.output, *SMALL, *HEADS, "pretrain.seed=9")), SILENT)
    artifact = EncoderArtifact.open(Plan(trained).encoder.folder)
    with pytest.raises(ArtifactIncompatible, match="its pictures have 16 px, these have 32"):
        artifact.encoder(torch.zeros(4, 3, 32, 32), artifact.summary.normalisation)


@pytest.mark.long
def test_two_workers_of_which_one_is_killed_give_the_bits_of_one(
    tiny_root: Path, trained: Config, tmp_path: Path
) -> None:
    config = tiny(copy_of(tiny_root, tmp_path, *MADE_FROM), *SMALL, "resources.workers=2")
    with killing("RayTrainWorker", (below(config, "encoder") / STATE).exists):
        pretrain(Plan(config), SILENT)
    assert content(Plan(config).encoder) == content(Plan(trained).encoder)


@pytest.mark.long
def test_killed_command_resumes_with_the_same_bits(tiny_root: Path, trained: Config, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path / "run", *MADE_FROM)
    config = tiny(root, *SMALL, "resources.workers=2")
    words = (str(tools.TINY), f"output={root}", "tracking.enabled=false", *SMALL, "resources.workers=2")
    state = below(config, "encoder") / STATE
    with tempfile.TemporaryDirectory(prefix="rd-pt-", ignore_cleanup_errors=True) as ray_folder:
        command = tools.typed(tmp_path, tools.environment(Path(ray_folder)), "pretrain", *words)
        command.wait_until("there is a checkpoint", state.exists)
        command.kill()
        assert command.process.returncode == -signal.SIGKILL
    assert not Plan(config).encoder.exists, "killed too late, the encoder was finished"
    pretrain(Plan(config), SILENT)
    assert content(Plan(config).encoder) == content(Plan(trained).encoder)


@pytest.mark.long
def test_divergence_ends_the_training_with_one_sentence(tiny_root: Path, tmp_path: Path) -> None:
    config = tiny(
        copy_of(tiny_root, tmp_path, *MADE_FROM), *SMALL, "pretrain.training.lr=1e30", "pretrain.training.warmup=0",
    )  # fmt: skip
    with pytest.raises(DivergenceError, match=r"pretrain: the .* not finite (at|after) step \d+; lower pretrain"):
        pretrain(Plan(config), SILENT)
