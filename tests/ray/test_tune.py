"""The tune stage: the table of trials, and the best recipe as a config.

Killed searches are tested in tests/e2e/test_kill.py.
"""

from __future__ import annotations

import asyncio
import json
import pickle
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
from PIL import Image
from ray_tools import SILENT, copy_of, killing, tiny

from raydistill.config import Config, load
from raydistill.distillation.options import Adam
from raydistill.errors import ClusterError, ConfigError, DivergenceError
from raydistill.pipeline.plan import Plan
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.stage import distill
from raydistill.stages.distill.task import STATE
from raydistill.stages.tune.artifact import BEST, SearchReport
from raydistill.stages.tune.recorder import (
    DIVERGED,
    FAILED,
    FINISHED,
    METRIC,
    NO_RECIPE,
    STOPPED,
    RecorderCallback,
    Trial,
    TrialRecorder,
    _recorders,
)
from raydistill.stages.tune.report import no_success_error, rank
from raydistill.stages.tune.stage import halving_scheduler, trial_validations, tune
from raydistill.storage import checked
from raydistill.tracking.tracker import Tracker
from tests.e2e.browser import CHROMIUM
from tests.e2e.mlflow_walk import walk_search, walking

MADE_FROM = ("survey", "curated", "trajectories")
SPACE = "{student_steps: {low: 2, high: 5}, image_step.lr: {low: 0.01, high: 0.1, log: true}, init: [real, noise]}"
SEARCH = (f"search={{trials: 4, stopping: {{grace: 5, reduction: 2}}, space: {SPACE}}}", "distill.validate_every=5")


@pytest.fixture(scope="module")
def searched(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    root = copy_of(tiny_root, tmp_path_factory.mktemp("searched"), *MADE_FROM)
    config = tiny(root, *SEARCH, "tracking.enabled=true")
    plan = Plan(config)
    tracker = Tracker(f"sqlite:///{root}/mlflow.db", "search")
    tracker.initialise()
    tune(plan, tracker)
    return config


def test_all_trials_end_and_are_ranked_best_first(searched: Config) -> None:
    trials = SearchReport.open(Plan(searched).search.folder).trials.to_pylist()
    assert len(trials) == 4
    assert {trial["status"] for trial in trials} <= {FINISHED, STOPPED}
    assert trials[0]["status"] == FINISHED or len({trial["best"] for trial in trials}) < 4
    assert [trial["best"] for trial in trials] == sorted((trial["best"] for trial in trials), reverse=True)
    for trial in trials:
        assert set(json.loads(trial["values"])) == {"student_steps", "image_step.lr", "init"}
        assert trial["iterations"] == 20 or trial["status"] == STOPPED


def test_own_recipe_of_the_config_is_tried(searched: Config) -> None:
    trials = SearchReport.open(Plan(searched).search.folder).trials.to_pylist()
    recipe = {"student_steps": 3, "image_step.lr": 0.03, "init": "real"}
    assert recipe in [json.loads(trial["values"]) for trial in trials]


def test_best_recipe_is_a_config_whose_distilled_set_exists(searched: Config) -> None:
    report = SearchReport.open(Plan(searched).search.folder)
    best = load(f"{report.folder}/{BEST}")
    values = json.loads(report.trials["values"][0].as_py())
    assert best.distill.student_steps == values["student_steps"]
    assert best.distill.image_step == Adam(lr=values["image_step.lr"])
    assert best.experts == searched.experts
    assert Plan(best).trajectories.identity == Plan(searched).trajectories.identity
    assert Plan(best).distilled.folder.uri == report.trials["folder"][0].as_py()
    distill(Plan(best), SILENT)
    validation = pq.read_table(f"{Plan(best).distilled.folder}/validation.parquet")["balanced_accuracy"].to_pylist()
    if report.trials["status"][0].as_py() == FINISHED:
        assert max(validation) == report.trials["best"][0].as_py()


def test_trial_has_the_same_bits_as_the_distill_stage(searched: Config, tiny_root: Path, tmp_path: Path) -> None:
    rows = SearchReport.open(Plan(searched).search.folder).trials.to_pylist()
    row = next(row for row in rows if row["status"] == FINISHED)
    values = [f"distill.{key}={value}" for key, value in json.loads(row["values"]).items()]
    alone = tiny(copy_of(tiny_root, tmp_path, *MADE_FROM), *SEARCH, *values)
    folder = distill(Plan(alone), SILENT).folder
    for name in ("images.safetensors", "images-last.safetensors", "validation.parquet"):
        assert folder.read(name) == Path(row["folder"], name).read_bytes(), name


def test_search_draws_a_figure(searched: Config) -> None:
    picture = Image.open(f"{Plan(searched).search.folder}/parallel.png")
    assert picture.size[0] > 600
    assert len(picture.convert("RGB").getcolors(2**20) or []) > 50


def test_mlflow_has_a_parent_run_and_a_child_per_trial(searched: Config) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{searched.output}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("search").experiment_id])
    (parent,) = [run for run in runs if run.data.tags["raydistill.stage"] == "search"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    trials = SearchReport.open(Plan(searched).search.folder).trials.to_pylist()
    assert len(children) == len(trials) == 4
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.info.run_name for run in children} == {f"trial tiny {trial['trial']}" for trial in trials}
    assert {run.data.tags["config"] for run in runs} == {"tiny"}
    assert sorted(run.data.metrics["best"] for run in children) == sorted(trial["best"] for trial in trials)


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_mlflow_shows_the_trials_below_their_search(searched: Config, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{searched.output}/mlflow.db"
    client = MlflowClient(uri)

    async def look() -> None:
        async with walking(uri, tmp_path) as walk:
            await walk_search(walk, client, client.get_experiment_by_name("search").experiment_id)

    asyncio.run(look())


def test_finished_search_is_skipped(searched: Config, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "raydistill"):
        tune(Plan(searched), SILENT)
    assert "search: exists, skipped" in caplog.text


@pytest.mark.long
def test_diverged_recipe_comes_last_with_its_error(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, *MADE_FROM)
    search = "search={trials: 2, sampler: random, stopping: null, space: {student_lr: [0.01, 1.0e+30]}}"
    trials = tune(Plan(tiny(root, search)), SILENT).trials.to_pylist()
    assert [trial["status"] for trial in trials] == [FINISHED, DIVERGED]
    assert "distill.student_lr" in trials[1]["said"]


@pytest.mark.long
def test_invalid_combination_of_values_fails_only_its_trial(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, *MADE_FROM)
    space = "{labels: [hard, soft], label_init: [experts, hard]}"
    search = f"search={{trials: 2, sampler: random, stopping: null, seed: 10, space: {space}}}"
    trials = tune(Plan(tiny(root, search, "distill.labels=soft", "distill.iterations=2")), SILENT).trials.to_pylist()
    impossible = {"labels": "hard", "label_init": "hard"}
    assert {trial["status"] for trial in trials} == {FINISHED, NO_RECIPE}
    for trial in trials:
        assert (trial["status"] == NO_RECIPE) == (json.loads(trial["values"]) == impossible)
        assert ("label_init: hard goes with labels: soft" in trial["said"]) == (trial["status"] == NO_RECIPE)


def test_trial_whose_worker_never_started_has_failed(searched: Config) -> None:
    from raydistill.tracking.tracker import Run

    recorder = TrialRecorder(Plan(searched), SILENT, Run())
    recorder.folder = recorder.folder / "never"
    _recorders["never"] = recorder
    trial = SimpleNamespace(
        trial_id="a", config={"student_steps": 3, "image_step.lr": 0.03, "init": 0}, get_error=lambda: None
    )
    RecorderCallback("never").on_trial_error(0, [], trial)
    del _recorders["never"]
    assert (recorder.trials["a"].status, recorder.trials["a"].said) == (FAILED, "Ray Tune gives no cause")


@pytest.mark.parametrize(
    ("statuses", "kind", "fix"),
    [
        ((DIVERGED, FAILED, NO_RECIPE), ClusterError, "run the same command again"),
        ((NO_RECIPE, DIVERGED), DivergenceError, "narrow search.space"),
        ((NO_RECIPE,), ConfigError, "narrow search.space"),
    ],
)
def test_search_without_a_successful_trial_names_the_cause(
    statuses: tuple[str, ...], kind: type[Exception], fix: str
) -> None:
    trials = [Trial(status, {}, "", status, f"said of {status}") for status in statuses]
    with pytest.raises(kind, match=rf"none of {len(statuses)} trials succeeded; one of them: said of .*; {fix}"):
        raise no_success_error(trials)


@pytest.mark.long
def test_trial_whose_worker_died_ends_with_the_same_bits(
    tiny_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("search={trials: 1, stopping: null, space: {student_steps: {low: 2, high: 5}}}", "distill.iterations=60")

    def seen(root: Path, name: str) -> bool:
        return any(root.glob(name))

    folders = {}
    for name in ("killed", "undisturbed"):
        root = copy_of(tiny_root, tmp_path / name, *MADE_FROM)
        saved = f"tiny/distilled-*/{STATE}"
        with killing("ImplicitFunc", partial(seen, root, saved)) if name == "killed" else nullcontext():
            (trial,) = tune(Plan(tiny(root, *words)), SILENT).trials.to_pylist()
        assert (trial["status"], trial["iterations"]) == (FINISHED, 60)
        folders[name] = Path(trial["folder"])
    assert "died; another one resumes it" in caplog.text
    for name in ("images.safetensors", "images-last.safetensors", "validation.parquet"):
        assert Path(folders["killed"], name).read_bytes() == Path(folders["undisturbed"], name).read_bytes(), name


@pytest.mark.long
def test_search_in_which_all_trials_diverge_is_an_error(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, *MADE_FROM)
    search = "search={trials: 2, sampler: random, stopping: null, space: {student_lr: [1.0e+29, 1.0e+30]}}"
    with pytest.raises(DivergenceError, match="none of 2 trials succeeded"):
        tune(Plan(tiny(root, search)), SILENT)


def test_trial_holds_the_lease_of_its_distilled_set(tiny_root: Path, tmp_path: Path) -> None:
    """Otherwise `distill` could build the same set at the same time."""
    plan = Plan(tiny(copy_of(tiny_root, tmp_path, *MADE_FROM), "distill.iterations=5"))
    reports = trial_validations(plan, 1)
    first = next(reports)
    assert list(tmp_path.rglob(".distilled-*.making"))
    validations = [first, *reports]
    assert not list(tmp_path.rglob(".distilled-*.making"))
    # std of a single network is NaN, which is not equal to itself.
    assert repr(validations) == repr(list(trial_validations(plan, 1))), "a finished set is read"


def test_empty_space_is_rejected_before_a_cluster_starts(tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("raydistill.runtime.stages.ray_cluster")
    with pytest.raises(ConfigError, match=r"search\.space: there is nothing to search"):
        tune(Plan(tiny(tiny_root)), SILENT)


def test_repeated_reports_of_a_trial_count_once(searched: Config) -> None:
    from raydistill.tracking.tracker import Run

    recorder = TrialRecorder(Plan(searched), SILENT, Run())
    recorder.folder = recorder.folder / "elsewhere"
    recorder.on_start("a", {"student_steps": 3, "image_step.lr": 0.03, "init": 0})
    for _ in range(2):
        recorder.on_result("a", {"iteration": 0, "balanced_accuracy": 0.2})
        recorder.on_result("a", {"iteration": 5, "balanced_accuracy": 0.4})
    recorder.on_result("a", {"iteration": 5, "balanced_accuracy": 0.4, "ended": FINISHED})
    recorder.on_end("a", STOPPED)
    trial = recorder.trials["a"]
    assert (trial.validations, trial.status, trial.best) == ([(0, 0.2), (5, 0.4)], FINISHED, (0.4, 5))


def test_finished_trial_stays_finished_when_a_resumed_search_stops_it_early(searched: Config) -> None:
    from raydistill.tracking.tracker import Run

    drawn = {"student_steps": 3, "image_step.lr": 0.03, "init": 0}
    killed = TrialRecorder(Plan(searched), SILENT, Run())
    killed.folder = killed.folder / "again"
    killed.on_start("a", drawn)
    killed.on_result("a", {"iteration": 0, "balanced_accuracy": 0.2})
    killed.on_result("a", {"iteration": 5, "balanced_accuracy": 0.4, "ended": FINISHED})
    recorder = TrialRecorder(Plan(searched), SILENT, Run())
    recorder.trials, recorder.folder = (
        {"a": Trial(**json.loads(checked.require(killed.folder, "a.json")))},
        killed.folder,
    )
    recorder.on_start("a", drawn)
    recorder.on_result("a", {"iteration": 0, "balanced_accuracy": 0.2})
    recorder.on_end("a", STOPPED)
    trial = recorder.trials["a"]
    assert (trial.status, trial.best, len(trial.validations)) == (FINISHED, (0.4, 5), 2)


def test_diverged_trial_is_never_the_best() -> None:
    good, bad = Trial("good", {}, "", FINISHED), Trial("bad", {}, "", DIVERGED, "said")
    good.validations, bad.validations = [(0, 0.2), (10, 0.5)], [(0, 0.2), (5, 0.7)]
    assert [trial.name for trial in rank([bad, good])] == ["good", "bad"]


def test_trial_resolves_paths_relative_to_its_search(
    searched: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resolve relative paths before Tune starts a trial in its own working directory.

    There they would point elsewhere.
    """
    tree = "name: two\nclasses: [{name: a, path: [smooth]}, {name: b, path: [features_or_disk]}]\n"
    (tmp_path / "tree.yaml").write_text(tree)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    config = replace(searched, output="runs", curate=replace(searched.curate, classes="tree.yaml"))
    here = Plan(config)
    assert here.distilled.folder.is_local  # caches the property, which a trial must not reuse
    sent = pickle.dumps(here.with_resolved_paths())
    monkeypatch.chdir(tmp_path / "elsewhere")
    trial = pickle.loads(sent).with_recipe(replace(config.distill, student_steps=2))
    assert trial.trajectories.folder.uri == here.trajectories.folder.uri
    assert Path(trial.distilled.folder.uri).parent == tmp_path / "runs" / "tiny"
    assert trial.distilled.identity != here.distilled.identity
    assert trial.class_tree.name == "two"
    with pytest.raises(ConfigError, match="the target lies 4 epochs ahead"):
        trial.with_recipe(replace(config.distill, expert_epochs=4))


def test_weaker_trial_is_stopped_early(searched: Config) -> None:
    scheduler = halving_scheduler(searched)
    assert scheduler is not None
    scheduler.set_search_properties(METRIC, "max")
    trials = {name: SimpleNamespace(trial_id=name, status="RUNNING") for name in ("good", "bad")}

    def decision(name: str, iteration: int, value: float) -> str:
        """The scheduler does not use the controller."""
        result: Any = {"iteration": iteration, METRIC: value}
        trial: Any = trials[name]
        controller: Any = None
        return scheduler.on_trial_result(controller, trial, result)

    for trial in trials.values():
        added: Any = trial
        scheduler.on_trial_add(cast(Any, None), added)
    assert decision("good", 0, 0.2) == decision("bad", 0, 0.2) == "CONTINUE", "before `grace`"
    assert decision("good", 5, 0.6) == "CONTINUE"
    assert decision("bad", 5, 0.3) == "STOP"
    assert decision("good", 10, 0.6) == "CONTINUE"


@pytest.mark.long
def test_members_of_a_population_take_over_images(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, *MADE_FROM)
    schedule_space = "schedule.significance: {low: 0.5, high: 4.0}, schedule.min_duration: {low: 2, high: 6}"
    space = f"{{image_step.lr: {{low: 0.001, high: 0.3, log: true}}, {schedule_space}}}"
    search = f"search={{trials: 5, stopping: {{kind: pbt, every: 5, share: 0.4}}, space: {space}}}"
    # Two of the five members run at a time.
    adaptive = "distill.schedule={kind: self-adaptive, min_duration: 4, max_duration: 20, max_start_epoch: 1}"
    words = ("distill.validate_every=5", "distill.iterations=40", "resources.distill_cpus=1", adaptive)
    report = tune(Plan(tiny(root, search, *words)), SILENT)
    trials = report.trials.to_pylist()
    assert len(trials) == 5
    schedules = [json.loads(trial["schedule"]) for trial in trials]
    assert {(trial["status"], trial["iterations"]) for trial in trials} == {(FINISHED, 40)}
    assert all(schedule[0][0] == 0 for schedule in schedules)
    changes = [iteration for schedule in schedules for iteration, _ in schedule[1:]]
    assert changes, "no member took over images in eight rounds"
    assert all(0 < iteration <= 40 and iteration % 5 == 0 for iteration in changes)
    for trial, schedule in zip(trials, schedules, strict=True):
        assert schedule[-1][1] == json.loads(trial["values"])
        assert all(0.001 <= values["image_step.lr"] <= 0.3 for _, values in schedule)
        assert all(values["schedule.min_duration"] in range(2, 7) for _, values in schedule)
        assert all(0.5 <= values["schedule.significance"] <= 4 for _, values in schedule)
    best = DistilledSet.open(f"{report.folder}/best")
    assert best.folder.uri == trials[0]["folder"]
    assert best.manifest.config["schedule"] == schedules[0]
    validations = pq.read_table(best.folder.local("validation.parquet"))["balanced_accuracy"].to_pylist()
    assert max(validations) == trials[0]["best"], "the best accuracy must belong to the published images"
    assert load(f"{report.folder}/{BEST}").distilled == best.folder.uri
    assert not any(path.name == "members" for path in Path(report.folder.uri).rglob("*"))
