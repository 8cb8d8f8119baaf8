"""Test `kill -9` in the middle of every stage.

The same command resumes, and every artifact ends with the same bits.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raydistill.stages.curate.feeding.worker import STATE
from tests.e2e import tools
from tests.e2e.test_mlflow import client
from tests.e2e.tools import artifact, there

pytestmark = pytest.mark.timeout(900)

# kind of artifact -> whether its stage is running, from its folder or the log
UNDER_WAY: dict[str, Callable[[Path, tools.Command], bool]] = {
    "survey": lambda output, _: there(output, "survey", "images/*.jpg"),
    "curated": lambda output, command: "curated: begins" in command.log,
    "trajectories": lambda output, _: there(output, "trajectories", "partial/expert-*/state.npz"),
    "distilled": lambda output, _: there(output, "distilled", "partial/state.safetensors"),
    "evaluation": lambda output, _: any((output / "runs" / "tiny" / "fit_cache").glob("*.json")),
}

MADE_BEFORE = ("survey", "curated", "trajectories")  # the inputs of a search


def leftovers(output: Path) -> list[str]:
    """Return unfinished files in finished artifacts, and files that no manifest lists."""
    names: list[str] = []
    for kind in tools.KINDS:
        folder = artifact(output, kind)
        assert folder is not None
        known = tools.manifest(output, kind)["files"]
        assert isinstance(known, dict)
        present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        names += [
            f"{kind}: {name}" for name in sorted(present - set(known) - {"manifest.json"}) if "/." not in f"/{name}"
        ]
    return names


@pytest.mark.long
def test_run_resumes_after_its_driver_is_killed_in_every_stage(
    tiny_run: Path, env: dict[str, str], tmp_path: Path
) -> None:
    for kind, under_way in UNDER_WAY.items():
        command = tools.raydistill(tmp_path, env)
        command.wait_until(f"{kind} is under way", lambda seen=under_way, of=command: seen(tmp_path, of))
        command.kill()
        assert command.process.returncode == -signal.SIGKILL, f"{kind}: the command had ended before it was killed"
        assert not there(tmp_path, kind, "manifest.json"), f"{kind}: killed too late, it was finished"
    command = tools.raydistill(tmp_path, env)
    assert command.wait() == 0, command.log[-4000:]
    assert command.answer == str(artifact(tmp_path, "evaluation"))
    assert "survey: exists, skipped" in command.log
    assert tools.contents(tmp_path) == tools.contents(tiny_run)
    assert not leftovers(tmp_path)


# options of a generator as small as `tools.TINY`
GENERATOR = (
    "generate.model.network={channels: [8, 16], layers: 1, patch: 2, attention: 1}",
    "generate.training={steps: 60, batch_size: 8, shards: 1, warmup: 5, ema_decay: 0.9}",
    "generate.sampling={steps: 4}",
    "generate.preview_every=30",
    "sample.num_images=40",
    "audit.permutations=699",
)
GENERATOR_UNDER_WAY: dict[str, Callable[[Path], bool]] = {
    "generator": lambda output: there(output, "generator", STATE),
    "synthetic": lambda output: there(output, "synthetic", "partial/blocks/*"),
    "audit": lambda output: there(output, "audit", "partial/blocks/*.safetensors"),
}


@pytest.mark.long
def test_generator_run_resumes_after_its_driver_is_killed_in_every_stage(
    tiny_run: Path, env: dict[str, str], tmp_path: Path
) -> None:
    for name in ("calm", "killed"):
        tools.copy_of(tiny_run, tmp_path / name, "survey", "curated")
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert tools.raydistill(calm, env, "--to", "audit", *GENERATOR).wait() == 0
    for kind, under_way in GENERATOR_UNDER_WAY.items():
        command = tools.raydistill(killed, env, "--to", "audit", *GENERATOR)
        command.wait_until(f"{kind} is under way", lambda seen=under_way: seen(killed))
        command.kill()
        assert command.process.returncode == -signal.SIGKILL, f"{kind}: the command had ended before it was killed"
        assert not there(killed, kind, "manifest.json"), f"{kind}: killed too late, it was finished"
    command = tools.raydistill(killed, env, "--to", "audit", *GENERATOR)
    assert command.wait() == 0, command.log[-4000:]
    for kind in GENERATOR_UNDER_WAY:
        assert tools.manifest(killed, kind)["content"] == tools.manifest(calm, kind)["content"]


# a scripted hunt as small as `tools.TINY`
HUNT = (
    "hunt.per_round=5",
    "hunt.background=10",
    "hunt.synthetic={lanes: {positive: {num_images: 10, source: {kind: injection}}, negative: {num_images: 10, "
    "source: {kind: injection, model: {kind: dust_lane, depth: [0, 0]}}}}}",
    "hunt.oracle={positive: truth_class <= 2, rounds: 3, seeds: 3, num_examples: 2, fixmatch: {training: {steps: 20}}, "
    "attributes: [smooth, dust_lane], strategies: [upper_bound, lanes, real, random, attributes, fixmatch]}",
)


@pytest.mark.long
def test_hunt_resumes_after_its_driver_is_killed(tiny_run: Path, env: dict[str, str], tmp_path: Path) -> None:
    for name in ("calm", "killed"):
        tools.copy_of(tiny_run, tmp_path / name, "survey", "curated", "trajectories")
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert tools.raydistill(calm, env, "--to", "hunt", *HUNT).wait() == 0
    command = tools.raydistill(killed, env, "--to", "hunt", *HUNT)
    command.wait_until("two trials are finished", lambda: len(list(killed.glob("**/partial/trial-*.json"))) >= 2)
    command.kill()
    assert command.process.returncode == -signal.SIGKILL, "the command had ended before it was killed"
    assert not there(killed, "hunt", "manifest.json"), "killed too late, it was finished"
    command = tools.raydistill(killed, env, "--to", "hunt", *HUNT)
    assert command.wait() == 0, command.log[-4000:]
    assert "trials are finished" in command.log
    assert tools.manifest(killed, "hunt")["content"] == tools.manifest(calm, "hunt")["content"]


@pytest.mark.long
def test_one_interrupt_stops_a_run_during_and_after_the_experts_stage(env: dict[str, str], tmp_path: Path) -> None:
    """Ray Train installs its own SIGINT handler, which would stay after its stage."""
    for kind in ("trajectories", "distilled"):
        command = tools.raydistill(tmp_path, env, "distill.iterations=100000")
        command.wait_until(f"{kind} is under way", lambda of=command, kind=kind: UNDER_WAY[kind](tmp_path, of))
        command.process.send_signal(signal.SIGINT)
        assert command.wait(90) == 130, f"{kind}: {command.log[-4000:]}"
        assert "raydistill: stopped; run the same command again to resume" in command.log


# kind of artifact -> process title of the worker, and when to kill it
WORKERS: dict[str, tuple[str, Callable[[Path, tools.Command], bool]]] = {
    "survey": ("simulate_chunk", lambda output, command: bool(command.workers("simulate_chunk"))),
    "curated": ("MapBatches", lambda output, command: bool(command.workers("MapBatches"))),
    "trajectories": ("RayTrainWorker", UNDER_WAY["trajectories"]),
    "distilled": ("run_trainer", UNDER_WAY["distilled"]),
    "evaluation": ("train_fit", lambda output, command: bool(command.workers("train_fit"))),
}


@pytest.mark.long
def test_run_survives_a_killed_worker_in_every_stage(tiny_run: Path, env: dict[str, str], tmp_path: Path) -> None:
    """Five workers of one run are killed; the driver survives."""
    command = tools.raydistill(tmp_path, env)
    for kind, (name, worth_killing) in WORKERS.items():
        command.wait_until(f"{kind} is under way", lambda seen=worth_killing: seen(tmp_path, command))
        command.wait_until(f"a worker ray::{name}", lambda title=name: bool(command.workers(title)))
        os.kill(command.workers(name)[0].pid, signal.SIGKILL)
        assert not there(tmp_path, kind, "manifest.json"), f"{kind}: killed too late, it was finished"
    assert command.wait() == 0, command.log[-4000:]
    assert "distill: the worker died" in command.log
    assert tools.contents(tmp_path) == tools.contents(tiny_run)
    assert not leftovers(tmp_path)


@pytest.mark.long
def test_interrupted_search_exits_as_interrupted(tiny_run: Path, env: dict[str, str], tmp_path: Path) -> None:
    """Ray Tune's own SIGINT handler would end the search as if it were finished."""
    tools.copy_of(tiny_run, tmp_path, *MADE_BEFORE)
    words = (
        "search={trials: 1, stopping: null, space: {student_steps: {low: 2, high: 5}}}",
        "distill.iterations=100000",
    )
    command = tools.raydistill(tmp_path, env, *words, stage="tune")
    command.wait_until("a trial distils", lambda: there(tmp_path, "distilled", "partial/state.safetensors"))
    command.process.send_signal(signal.SIGINT)
    assert command.wait(90) == 130, command.log[-4000:]
    assert "raydistill: stopped; run the same command again to resume" in command.log


@pytest.mark.long
def test_killed_search_keeps_all_finished_trials(tiny_run: Path, env: dict[str, str], tmp_path: Path) -> None:
    tools.copy_of(tiny_run, tmp_path, *MADE_BEFORE)
    space = "{student_steps: {low: 2, high: 5}, image_step.lr: {low: 0.01, high: 0.1, log: true}}"
    search = f"search={{trials: 5, stopping: {{grace: 20, reduction: 2}}, space: {space}}}"
    words = (search, "distill.iterations=40", "distill.validate_every=10")

    def ended() -> list[dict[str, Any]]:
        return [trial for trial in saved_trials(tmp_path) if trial["status"] != "running"]

    def finished() -> list[dict[str, Any]]:
        return [trial for trial in ended() if trial["status"] == "finished"]

    first = tools.raydistill(tmp_path, env, *words, stage="tune")
    first.wait_until("two trials have ended", lambda: len(ended()) >= 2 and bool(finished()))
    first.kill()
    before = {trial["folder"]: trial["validations"] for trial in finished()}
    written = {folder: (Path(folder) / "images.safetensors").stat().st_mtime_ns for folder in before}
    second = tools.raydistill(tmp_path, env, *words, stage="tune")
    assert second.wait() == 0, second.log[-4000:]
    assert "tune: resumes the unfinished trials" in second.log
    trials = {row["folder"]: row for row in pq.read_table(Path(second.answer) / "trials.parquet").to_pylist()}
    assert len(trials) >= 5
    for folder, validations in before.items():
        assert trials[folder]["best"] == max(value for _, value in validations)
        assert (Path(folder) / "images.safetensors").stat().st_mtime_ns == written[folder], "it was distilled again"
    assert not (Path(second.answer) / "partial").exists()
    assert trials_in_mlflow(tmp_path) == sorted((row["best"] for row in trials.values()), reverse=True), (
        "one parent run must have all trials"
    )
    assert_best_recipe_runs(Path(second.answer), tmp_path, env)


def saved_trials(output: Path) -> list[dict[str, Any]]:
    """Return the trials that the driver of the search has saved so far."""
    return [json.loads(path.read_text()) for path in output.glob("runs/tiny/search-*/partial/trials/[!.]*.json")]


def trials_in_mlflow(output: Path) -> list[float]:
    """Return the best accuracy of each trial of the finished search, best first."""
    mlflow_client = client(output)
    runs = mlflow_client.search_runs([mlflow_client.get_experiment_by_name("tiny").experiment_id])
    (parent,) = (
        run.info.run_id
        for run in runs
        if run.data.tags["raydistill.stage"] == "search" and run.info.status == "FINISHED"
    )
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]
    return sorted((run.data.metrics["best"] for run in children), reverse=True)


def assert_best_recipe_runs(search: Path, folder: Path, env: dict[str, str]) -> None:
    """Run best.yaml; it uses the distilled set of the search."""

    def images() -> dict[Path, int]:
        runs = folder / "runs" / "tiny"
        paths = (*runs.glob("distilled-*/images.safetensors"), *runs.glob("search-*/best/images.safetensors"))
        return {path: path.stat().st_mtime_ns for path in paths}

    before = images()
    best = tools.typed(folder, env, "run", str(search / "best.yaml"))
    assert best.wait() == 0, best.log[-4000:]
    assert "/evaluation-" in best.answer
    assert images() == before, "a set was distilled again"


@pytest.mark.long
def test_killed_population_resumes_its_members(tiny_run: Path, env: dict[str, str], tmp_path: Path) -> None:
    """Members and copied states survive; one of three members waits on two cores."""
    tools.copy_of(tiny_run, tmp_path, *MADE_BEFORE)
    space = "{image_step.lr: {low: 0.001, high: 0.3, log: true}, lr_step.lr: {low: 0.001, high: 0.02, log: true}}"
    search = f"search={{trials: 3, stopping: {{kind: pbt, every: 5, share: 0.4}}, space: {space}}}"
    words = (search, "distill.iterations=60", "distill.validate_every=5")

    def reported() -> list[int]:
        return [len(trial["validations"]) for trial in saved_trials(tmp_path)]

    first = tools.raydistill(tmp_path, env, *words, stage="tune")
    first.wait_until("all are under way", lambda: len(reported()) == 3 and min(reported()) >= 4)
    first.kill()
    second = tools.raydistill(tmp_path, env, *words, stage="tune")
    assert second.wait() == 0, second.log[-4000:]
    assert "tune: resumes the unfinished trials" in second.log
    trials = pq.read_table(Path(second.answer) / "trials.parquet").to_pylist()
    assert [(trial["status"], trial["iterations"]) for trial in trials] == [("finished", 60)] * 3
    for trial in trials:
        begins = [iteration for iteration, _ in json.loads(trial["schedule"])]
        assert begins[0] == 0
        assert begins == sorted(begins)
    best = Path(second.answer) / "best"
    validations = pq.read_table(best / "validation.parquet").to_pydict()
    assert validations["iteration"] == list(range(0, 61, 5))
    assert max(validations["balanced_accuracy"]) == trials[0]["best"]
    assert not (Path(second.answer) / "partial").exists()
    assert_best_recipe_runs(Path(second.answer), tmp_path, env)


@pytest.mark.long
def test_finished_run_is_skipped_without_starting_ray(tiny_run: Path, env: dict[str, str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tiny_run / "runs" / "tiny").glob("*/*") if path.is_file()}
    command = tools.raydistill(tiny_run, env)
    assert command.wait() == 0, command.log
    assert command.answer == str(artifact(tiny_run, "evaluation"))
    assert "Ray:" not in command.log, "a cluster was started for nothing"
    assert {path: path.stat().st_mtime_ns for path in before} == before
