"""Check the MLflow records of a run: parent, children, config and lineage.

Also check curves, pictures and status.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raydistill as rd
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.evaluate.artifact import EvaluationReport
from raydistill.tracking.tracker import Tracker
from tests.e2e import tools
from tests.e2e.browser import CHROMIUM
from tests.e2e.mlflow_walk import walk_run, walking
from tests.servers import mlflow_server
from tests.words import false_words


def tracking_uri(output: Path) -> str:
    return f"sqlite:///{output / 'runs' / 'tiny' / 'mlflow.db'}"


def client(output: Path) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracking_uri(output))


def runs_of(output: Path) -> dict[str, Any]:
    """Return {stage: run}; each stage has one run."""
    mlflow_client = client(output)
    experiment = mlflow_client.get_experiment_by_name("tiny")
    runs = list(mlflow_client.search_runs([experiment.experiment_id]))
    stages = {run.data.tags["raydistill.stage"]: run for run in runs}
    assert len(stages) == len(runs), "a stage has two runs"
    return stages


@pytest.fixture(scope="module")
def runs(tiny_run: Path) -> dict[str, Any]:
    return runs_of(tiny_run)


def test_one_parent_run_and_a_child_per_stage_finish(runs: dict[str, Any]) -> None:
    assert set(runs) == {"run", *tools.KINDS}
    assert {stage: run.info.status for stage, run in runs.items()} == dict.fromkeys(runs, "FINISHED")
    parent = runs["run"].info.run_id
    assert "mlflow.parentRunId" not in runs["run"].data.tags
    assert {runs[kind].data.tags["mlflow.parentRunId"] for kind in tools.KINDS} == {parent}


def test_no_running_run_is_marked_as_killed(tiny_run: Path) -> None:
    """The parent is RUNNING while its stages run; no stage may mark it as killed."""
    log = "".join(path.read_text() for path in tiny_run.glob("command-*.err"))
    assert "left running by a killed process" not in log


def test_params_are_the_values_that_differ_from_their_defaults(runs: dict[str, Any]) -> None:
    for stage, run in runs.items():
        params = run.data.params
        assert params["distill.iterations"] == "20", stage
        assert params["experts.training.epochs"] == "3", stage
        assert params["seed"] == "3", stage
        assert len(params) <= 60, stage


def test_lineage_matches_the_manifests(tiny_run: Path, runs: dict[str, Any]) -> None:
    for kind in tools.KINDS:
        manifest, tags = tools.manifest(tiny_run, kind), runs[kind].data.tags
        assert tags["raydistill.identity"] == manifest["identity"]
        assert tags["raydistill.content"] == manifest["content"]
        assert tags["raydistill.uri"] == str(tools.artifact(tiny_run, kind))
        parents = manifest["parents"]
        assert isinstance(parents, dict)
        named = {f"raydistill.parent.{name}": parent["identity"] for name, parent in parents.items()}
        assert {name: tags[name] for name in tags if name.startswith("raydistill.parent.")} == named, kind


def test_inputs_are_the_curated_set_with_its_digest(tiny_run: Path, runs: dict[str, Any]) -> None:
    digest = str(tools.manifest(tiny_run, "curated")["content"])
    for kind in ("trajectories", "distilled", "evaluation"):
        (given,) = runs[kind].inputs.dataset_inputs
        assert given.dataset.digest == digest[:36], kind
        assert digest in given.dataset.profile
        assert '"num_rows": 90' in given.dataset.profile


def test_metrics_have_all_their_steps(tiny_run: Path, runs: dict[str, Any]) -> None:
    mlflow_client = client(tiny_run)

    def points(kind: str, name: str) -> dict[int, float]:
        return {point.step: point.value for point in mlflow_client.get_metric_history(runs[kind].info.run_id, name)}

    loss = points("distilled", "loss")
    assert sorted(loss) == list(range(1, 21))
    assert sorted(points("distilled", "validation/balanced_accuracy")) == [0, 10, 20]
    assert sorted(points("trajectories", "expert/balanced_accuracy")) == [0, 1, 2]
    assert set(points("evaluation", "random_images/balanced_accuracy")) == {0}
    assert (
        sum(points("curated", f"kept/{name}")[0] for name in ("round", "in_between", "cigar", "edge_on", "spiral"))
        == 90
    )


def test_runs_have_their_figures_and_files(tiny_run: Path, runs: dict[str, Any]) -> None:
    mlflow_client = client(tiny_run)

    def names(kind: str, folder: str = "") -> set[str]:
        return {entry.path for entry in mlflow_client.list_artifacts(runs[kind].info.run_id, folder)}

    assert {"grid.png", "atlas.png", "history.png", "images.safetensors", "prototypes.fits"} <= names("distilled")
    assert names("distilled", "prototypes") == {f"prototypes/iteration-{i:06d}.png" for i in (10, 20)}
    assert {"confusion.png", "accuracy.png", "evaluation.json", "accuracies.json"} <= names("evaluation")
    assert "examples.png" in names("curated")
    assert "experts.png" in names("trajectories")


def test_accuracies_are_a_table_and_the_curation_has_its_counts(
    tiny_run: Path, runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(tiny_run))  # load_table searches there
    mlflow_client, run = client(tiny_run), runs["evaluation"]
    table = mlflow_client.load_table(run.info.experiment_id, "accuracies.json", [run.info.run_id])
    folder = tools.artifact(tiny_run, "evaluation")
    assert folder is not None
    expected = EvaluationReport.open(str(folder)).table()
    assert list(table.columns) == list(expected.columns)
    assert table["balanced_accuracy"].tolist() == pytest.approx(expected["balanced_accuracy"].tolist(), abs=6e-5)
    note = runs["curated"].data.tags["mlflow.note.content"]
    kept = int(runs["curated"].data.metrics["kept/spiral"])
    assert re.search(rf"\| spiral \| \d+ \| {kept} \|", note)


def test_the_set_is_a_registered_model_with_metrics_inputs_and_run(
    tiny_run: Path, runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow_client, folder = client(tiny_run), tools.artifact(tiny_run, "distilled")
    best = mlflow_client.get_model_version_by_alias("tiny_ipc1", "best")
    assert (best.run_id, best.tags["raydistill.uri"]) == (runs["distilled"].info.run_id, str(folder))
    (output,) = runs["distilled"].outputs.model_outputs
    model = mlflow_client.get_logged_model(output.model_id)
    metrics = {metric.key: metric for metric in model.metrics}
    assert model.status == "READY"
    history = mlflow_client.get_metric_history(best.run_id, "validation/balanced_accuracy")
    assert metrics["validation/balanced_accuracy"].value == max(point.value for point in history)
    assert metrics["test/balanced_accuracy"].value == runs["evaluation"].data.metrics["distilled/balanced_accuracy"]
    assert metrics["test/balanced_accuracy"].run_id == runs["evaluation"].info.run_id
    curated = str(tools.manifest(tiny_run, "curated")["content"])
    assert {metric.dataset_digest for metric in model.metrics} == {curated[:36]}
    evaluation = mlflow_client.get_run(runs["evaluation"].info.run_id)  # a search leaves out the models
    assert [model_input.model_id for model_input in evaluation.inputs.model_inputs] == [model.model_id]
    assert '"name": "tiny_ipc1"' in model.tags["mlflow.modelVersions"], "MLflow's page of the model has no version"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(tiny_run))
    prototypes = rd.open("models:/tiny_ipc1@best")
    assert (prototypes.folder.uri, prototypes.manifest.kind) == (str(folder), "distilled")


def test_the_classifiers_in_mlflow_reproduce_the_evaluation(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings(action="ignore"):  # of MLflow's own models
        from mlflow.pyfunc import load_model
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(tiny_run))
    evaluation, curated = (rd.open(str(tools.artifact(tiny_run, kind))) for kind in ("evaluation", "curated"))
    assert isinstance(evaluation, EvaluationReport)
    assert isinstance(curated, CuratedSet)
    test = curated.load("test")
    loaded = load_model("models:/tiny_ipc1_classifier@best", dst_path=str(tmp_path))
    predicted = loaded.predict(test.images_NHWC.numpy()).predicted_class.map(curated.class_names.index)
    confusion = np.zeros((5, 5), int)
    np.add.at(confusion, (test.labels_N.numpy(), predicted.to_numpy(int)), 1)
    row = next(row for row in evaluation.runs.to_pylist() if row["subject"] == "distilled")
    assert confusion.flatten().tolist() == row["confusion"]
    assert rd.open("models:/tiny_experts@best").manifest.kind == "trajectories"


def test_the_parent_has_the_headline_and_a_note(tiny_run: Path, runs: dict[str, Any]) -> None:
    parent, evaluation = runs["run"], runs["evaluation"]
    for name in ("distilled", "random_images", "experts"):
        metric = f"{name}/balanced_accuracy"
        assert parent.data.metrics[metric] == evaluation.data.metrics[metric]
    share = parent.data.metrics["distilled/fraction_of_experts"]
    assert f"reaches {share:.0%} of its experts" in parent.data.tags["mlflow.note.content"]
    assert "| distilled | " in parent.data.tags["mlflow.note.content"]
    files = {entry.path for entry in client(tiny_run).list_artifacts(parent.info.run_id)}
    assert {"atlas.png", "accuracy.png"} <= files


def test_no_run_of_a_simulated_survey_says_real(tiny_run: Path, runs: dict[str, Any], tmp_path: Path) -> None:
    experiment = client(tiny_run).get_experiment_by_name("tiny")
    assert not false_words(experiment.tags["mlflow.note.content"])
    for stage, run in runs.items():
        note = run.data.tags.get("mlflow.note.content", "")
        assert not false_words(" ".join([note, run.info.run_name, *run.data.metrics])), stage
    for name in ("accuracies.json", "classes.json"):
        table = client(tiny_run).download_artifacts(runs["evaluation"].info.run_id, name, str(tmp_path))
        assert not false_words(Path(table).read_text()), name


def test_runs_are_found_by_name_and_tags(tiny_run: Path, runs: dict[str, Any]) -> None:
    experiment = client(tiny_run).get_experiment_by_name("tiny")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    log = "".join(path.read_text() for path in tiny_run.glob("command-*.err"))
    assert (
        f"http://127.0.0.1:5000/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=raydistill&workflowType=machine_learning"
        in log
    )
    for stage, run in runs.items():
        assert run.info.run_name.startswith(f"{stage} tiny #"), stage
    wanted = "tags.config = 'tiny' and tags.survey = 'simulated' and tags.ipc = '1' and tags.method = 'mtt'"
    result = client(tiny_run).search_runs([experiment.experiment_id], f"{wanted} and tags.seed = '3'")
    assert len(result) == len(runs)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_printed_page_shows_the_runs_and_a_click_the_headline(tiny_run: Path, tmp_path: Path) -> None:
    uri = tracking_uri(tiny_run)
    address = Tracker(uri, "tiny").page()
    assert address is not None

    async def look() -> None:
        async with walking(uri, tmp_path) as walk:
            await walk.visit(address.partition("/#/")[2], "6 matching runs", "run tiny ")
            await walk.click("a", "run tiny ")
            await walk.read("It reaches ", "balanced accuracy ± 95 %", "distilled/fraction_of_experts")

    asyncio.run(look())


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_every_page_shows_what_a_person_must_see(tiny_run: Path, tmp_path: Path) -> None:
    """The runs, their metrics, pictures and tables, a comparison, and the models."""
    mlflow_client = client(tiny_run)
    experiment = mlflow_client.get_experiment_by_name("tiny").experiment_id

    async def look() -> None:
        async with walking(tracking_uri(tiny_run), tmp_path) as walk:
            await walk_run(walk, mlflow_client, experiment)

    asyncio.run(look())


@pytest.mark.long
def test_terminated_run_is_killed_in_mlflow_and_the_next_one_finishes(
    tiny_run: Path, env: dict[str, str], tmp_path: Path
) -> None:
    for kind in ("survey", "curated", "trajectories"):
        folder = tools.artifact(tiny_run, kind)
        assert folder is not None
        shutil.copytree(folder, tmp_path / "runs" / "tiny" / folder.name)
    command = tools.raydistill(tmp_path, env)
    command.wait_until("distilling", lambda: tools.there(tmp_path, "distilled", "partial/state.safetensors"))
    command.process.send_signal(signal.SIGTERM)
    code = command.wait(60)
    assert code == 128 + signal.SIGTERM
    assert "stopped; run the same command again to resume" in command.log
    for noise in ("Traceback", "SIGTERM received", "@     0x"):
        assert noise not in command.log, command.log[-3000:]
    ended = {stage: run.info.status for stage, run in runs_of(tmp_path).items()}
    assert ended == {"run": "KILLED", "distilled": "KILLED"}
    assert not tools.there(tmp_path, "distilled", "manifest.json")
    again = tools.raydistill(tmp_path, env, stage="distill")
    assert again.wait() == 0, again.log[-3000:]
    assert tools.manifest(tmp_path, "distilled")["content"] == tools.manifest(tiny_run, "distilled")["content"]


@pytest.mark.long
def test_metrics_arrive_while_a_distillation_runs(tiny_run: Path, env: dict[str, str], tmp_path: Path) -> None:
    tools.copy_of(tiny_run, tmp_path, "survey", "curated", "trajectories")
    sampled = {**env, "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1"}
    options = ("distill.iterations=100000", "tracking.system_metrics=true")
    command = tools.raydistill(tmp_path, sampled, *options, stage="distill")
    command.wait_until("distilling", lambda: tools.there(tmp_path, "distilled", "partial/state.safetensors"))

    def arrived() -> bool:
        metrics = runs_of(tmp_path)["distilled"].data.metrics
        return {"loss", "system/cpu_utilization_percentage"} <= set(metrics)

    command.wait_until("metrics arrive", arrived)
    assert runs_of(tmp_path)["distilled"].info.status == "RUNNING"
    command.process.send_signal(signal.SIGTERM)
    assert command.wait(60) == 128 + signal.SIGTERM


@pytest.mark.long
def test_records_are_sent_after_the_mlflow_server_returns(env: dict[str, str], tmp_path: Path) -> None:
    """Experts train without the server; it receives their records later."""
    import mlflow

    (port,) = tools.free_ports(1)
    uri = f"http://127.0.0.1:{port}"
    # One worker, so that two experts are not trained yet when the first has ended.
    long = ("experts.training.epochs=400", "resources.workers=1")
    with mlflow_server(tmp_path, port, "first.log"):
        command = tools.raydistill(tmp_path, env, f"tracking.uri={uri}", *long)
        command.wait_until("experts train", lambda: tools.there(tmp_path, "trajectories", "partial/expert-*/state.npz"))
    command.wait_until("an expert has ended", lambda: tools.there(tmp_path, "trajectories", "expert-0000.npy"))
    with mlflow_server(tmp_path, port, "second.log"):
        assert not tools.there(tmp_path, "trajectories", "manifest.json"), "the server came back too late"
        assert command.wait() == 0, command.log[-4000:]
        assert command.log.count(f"nothing can be recorded at {uri}") == 1, (
            "the missing server gave no warning, or several"
        )
        assert f"{uri} answers again" in command.log
        mlflow_client = mlflow.MlflowClient(uri)
        experiment = mlflow_client.get_experiment_by_name("tiny")
        assert experiment is not None
        runs = mlflow_client.search_runs([experiment.experiment_id])
        ended = {run.data.tags["raydistill.stage"]: run.info.status for run in runs}
        assert ended == dict.fromkeys(["run", *tools.KINDS], "FINISHED")
        (trained,) = (run.info.run_id for run in runs if run.data.tags["raydistill.stage"] == "trajectories")
        assert [m.step for m in mlflow_client.get_metric_history(trained, "expert/balanced_accuracy")] == [0, 1, 2]
