"""Identities of a plan, stages of a run, and number of workers on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray
from ray_tools import copy_of, folder_survey, tiny

from raydistill.config import CatalogSurvey, Config, Curate, Resources, Tracking, load
from raydistill.errors import ClusterError, ConfigError
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.run import lineage, run, spec_of
from raydistill.runtime import resources
from raydistill.runtime.failures import translate_errors


@pytest.fixture
def identity(tmp_path: Path) -> Any:
    """Return a function: options of the survey -> identity of its curated set."""
    (tmp_path / "tree.yaml").write_text("name: t\nclasses: [a, b]\n")
    mapping = tmp_path / "mapping.csv"
    mapping.write_text("objid,asset_id\n1,7\n")

    def identity(**options: Any) -> str:
        images = FolderImages(root=str(tmp_path / "images"), mapping=str(mapping))
        survey = CatalogSurvey(**folder_survey(tmp_path, {"1": "a"}, images=images), **options)
        curate = Curate(classes=str(tmp_path / "tree.yaml"))
        return Plan(Config(name="x", output=str(tmp_path), survey=survey, curate=curate)).curated.identity

    return identity


def test_identity_depends_on_the_mapping_and_not_on_the_citation(identity: Any, tmp_path: Path) -> None:
    first = identity(citation="Willet 2013")
    assert identity(citation="Willett et al. 2013", licence="CC BY") == first
    assert identity(frame_r90=8.48) != first
    (tmp_path / "mapping.csv").write_text("objid,asset_id\n1,8\n")
    assert identity() != first


def test_manifest_contains_licence_and_citation(tmp_path: Path) -> None:
    (tmp_path / "tree.yaml").write_text("name: t\nclasses: [a, b]\n")
    survey = CatalogSurvey(**folder_survey(tmp_path, {"1": "a"}), licence="CC BY", citation="Doe 2026")
    config = Config(name="x", output=str(tmp_path), survey=survey, curate=Curate(classes=str(tmp_path / "tree.yaml")))
    manifest_config = Plan(config).curated.config
    assert (manifest_config["licence"], manifest_config["citation"]) == ("CC BY", "Doe 2026")


def test_whitening_changes_the_identity_of_every_artifact_but_the_survey(tmp_path: Path) -> None:
    def identities(*overrides: str) -> list[str]:
        return [spec.identity for spec in lineage(Plan(tiny(tmp_path, *overrides)).evaluation)]

    plain, white = identities(), identities("curate.whitening=zca")
    assert [a == b for a, b in zip(plain, white, strict=True)] == [True, False, False, False, False]
    assert identities("curate.whitening=zca", "curate.whitening_eps=0.2")[1] not in (plain[1], white[1])


HEADS = ("distill.objective={kind: ridge, encoders: [pretrain]}", "distill.images_per_class=1")


def test_a_search_over_heads_has_the_encoders_and_not_the_experts_for_parents(tmp_path: Path) -> None:
    def search(*overrides: str) -> Any:
        return Plan(tiny(tmp_path, *HEADS, "search.space={init: [real, noise]}", *overrides)).search

    first, second = search(), search("pretrain.training.steps=7")
    assert set(first.parents) == {"curated", "encoder_0"}
    assert first.identity != second.identity
    assert [spec.kind for spec in lineage(first)] == ["survey", "curated", "encoder", "search"]


def test_a_set_for_heads_depends_on_the_network_only_where_it_begins_with_its_features(tmp_path: Path) -> None:
    def identity(*overrides: str) -> str:
        return Plan(tiny(tmp_path, *HEADS, *overrides)).distilled.identity

    def search(*overrides: str) -> str:
        return Plan(tiny(tmp_path, *HEADS, "distill.init=real", *overrides)).search.identity

    for inits, same in (("[real, noise]", True), ("[real, dm]", False)):
        found = {search(f"search.space={{init: {inits}}}", f"network.width={width}") for width in (4, 5)}
        assert (len(found) == 1) == same
    assert identity("distill.init=real", "network.width=4") == identity("distill.init=real", "network.width=5")
    assert identity("distill.init=dm", "network.width=4") != identity("distill.init=dm", "network.width=5")


def test_seed_of_the_generator_gives_another_generator_of_the_same_galaxies(tmp_path: Path) -> None:
    def plan(*overrides: str) -> Plan:
        return Plan(tiny(tmp_path, *overrides))

    first, second = plan("seed=3"), plan("seed=3", "generate.seed=4")
    assert first.curated.identity == second.curated.identity
    assert (first.generator.seed, second.generator.seed) == (3, 4)
    assert first.generator.identity != second.generator.identity


@pytest.mark.parametrize(
    ("stage", "overrides", "expected"),
    [
        ("curate", [], ["curated"]),
        ("distill", [], ["curated", "trajectories", "distilled"]),
        ("evaluate", [], ["curated", "trajectories", "distilled", "evaluation"]),
        ("audit", [], ["curated", "generator", "synthetic", "audit"]),
        ("detect", [], ["curated", "curated", "generator", "synthetic", "detection"]),
        ("sample", ["sample.filter={min_probability: 0.5}"], ["curated", "generator", "trajectories", "synthetic"]),
        ("audit", ["audit.spaces=[experts]"], ["curated", "generator", "synthetic", "trajectories", "audit"]),
        ("tune", [], ["curated", "trajectories", "search"]),
        (
            "augment",
            ["augment.methods=[real, oversampling, real_synthetic]"],
            ["curated", "generator", "synthetic", "augmentation"],
        ),
        ("adapt", ["adapt.target=demo"], ["curated", "survey", "curated", "adaptation"]),
    ],
)
def test_run_up_to_a_stage_builds_what_it_needs(
    stage: str, overrides: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no demo has run
    spec = spec_of(Plan(tiny(tmp_path, *overrides)), stage)
    assert sorted(needed.kind for needed in lineage(spec, needed=True)) == sorted(["survey", *expected])
    assert lineage(spec, needed=True)[-1] is spec


def test_run_that_evaluates_a_given_set_trains_no_experts(tiny_root: Path, tmp_path: Path) -> None:
    given = Plan(tiny(tiny_root)).distilled.folder
    plan = Plan(tiny(copy_of(tiny_root, tmp_path, "survey", "curated"), f"distilled={given}"))
    assert [spec.kind for spec in lineage(plan.evaluation, needed=True)] == ["evaluation"]


def test_run_to_hunt_makes_the_synthetic_sets_of_its_sources(tmp_path: Path) -> None:
    plan = Plan(load("demo_hunt", [f"output={tmp_path}"]))
    made = [spec.kind for spec in lineage(spec_of(plan, "hunt"))]
    assert made == ["survey", "curated", "trajectories", "predictions", "synthetic", "synthetic", "hunt"]


def test_run_to_simulate_says_that_a_survey_is_not_simulated(tmp_path: Path) -> None:
    survey = CatalogSurvey(**folder_survey(tmp_path, {"1": "a"}))
    config = Config(name="x", output=str(tmp_path), survey=survey, tracking=Tracking(enabled=False))
    with pytest.raises(ConfigError, match="this survey is not simulated"):
        run(Plan(config), "simulate")


@pytest.mark.parametrize(
    ("machines", "cpus", "gpus", "workers"),
    [
        ([{"CPU": 3.0}, {"CPU": 3.0}], 2, 0, 2),  # not three: a worker does not span two machines
        ([{"CPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}], 1, 0.25, 4),
        ([{"CPU": 2.0, "GPU": 1.0}], 1, 0.25, 2),
        ([{"CPU": 2.0}], 0.1, 0, 20),
        ([{"CPU": 64.0, "GPU": 4.0}], 1, 0.3, 12),  # not thirteen: a fraction does not span two GPUs
        ([{"CPU": 64.0, "GPU": 4.0}], 1, 2, 2),
    ],
)
def test_capacity_counts_whole_workers_on_each_machine(
    machines: list[dict[str, float]], cpus: float, gpus: float, workers: int
) -> None:
    assert sum(resources.node_capacity(machine, cpus, gpus) for machine in machines) == workers


def test_distilling_on_a_gpu_counts_only_cpus_of_machines_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "alive_nodes", lambda: [{"CPU": 32.0}, {"CPU": 8.0, "GPU": 1.0}])
    assert resources.choose_distill_cpus(Resources(distill_gpus=1), 1, 99) == 8
    assert resources.choose_distill_cpus(Resources(), 1, 99) == 32
    assert resources.choose_distill_cpus(Resources(), 4, 99) == 8
    assert resources.choose_distill_cpus(Resources(), 4, 3) == 3
    assert resources.choose_distill_cpus(Resources(distill_cpus=3), 1, 1) == 3


def test_repeated_death_of_a_worker_raises_cluster_error() -> None:
    expected = r"evaluate: a worker died too often.*run the same command again"
    with pytest.raises(ClusterError, match=expected), translate_errors("evaluate"):
        raise ray.exceptions.WorkerCrashedError
