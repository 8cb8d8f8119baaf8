"""Register distilled sets with real MLflow on SQLite, and open them by name."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tracking_tools import client_of, warnings_of

import raydistill as rd
from raydistill.artifacts.manifest import commit
from raydistill.errors import ArtifactError, ArtifactIncompatible, ArtifactMissing, ConfigError
from raydistill.learning.architectures import Custom
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.normalise import Normalisation
from raydistill.stages.distill.artifact import LAST, SELECTED, SyntheticImages, write_images
from raydistill.stages.experts.classify.classifier import MODEL_CODE
from raydistill.storage import Folder
from raydistill.tracking.registry import CLASSIFIER, DISTILLED_SET, Model, move_best
from raydistill.tracking.tracker import Tracker
from raydistill.tracking.uris import default_uri
from tests.servers import free_port
from tests.unit.stages.classifier_tools import NAMES, SIZE, classifier, pictures


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    tracker = Tracker(default_uri(tmp_path_factory.mktemp("a run")), "galaxies")
    tracker.initialise()
    return tracker


def register(tracker: Tracker, accuracy: float, uri: str = "/no/such/folder", name: str = "spirals_ipc1") -> None:
    model = Model(name, DISTILLED_SET, uri, f"{accuracy}", "cc", accuracy, 10, "survey", "dd" * 32)
    with tracker.run("distilled", identity=f"{name}{accuracy}") as run:
        run.register(model)


def best_accuracy(tracker: Tracker, name: str) -> float:
    version = client_of(tracker.uri).get_model_version_by_alias(name, "best")
    return float(version.tags["raydistill.validation.balanced_accuracy"])


def test_best_names_the_highest_accuracy_and_the_earlier_of_equals(tracker: Tracker) -> None:
    for accuracy, best in ((0.5, 0.5), (0.7, 0.7), (0.6, 0.7), (0.7, 0.7)):
        register(tracker, accuracy, name="order_ipc1")
        assert best_accuracy(tracker, "order_ipc1") == best
    assert client_of(tracker.uri).get_model_version_by_alias("order_ipc1", "best").version == 2


def test_the_better_of_two_runs_that_finish_together_is_best(tracker: Tracker) -> None:
    """Register the better set between the other run's look at versions and its move."""
    name = "together_ipc1"
    register(tracker, 0.1, name=name)
    client = client_of(tracker.uri)
    client.delete_registered_model_alias(name, "best")

    class Overtaken:
        """A client during whose first move another run registers a set."""

        def __getattr__(self, attribute: str) -> Any:
            return getattr(client, attribute)

        def set_registered_model_alias(self, *arguments: str) -> None:
            if len(client.search_model_versions(f"name = '{name}'")) == 1:
                register(tracker, 0.9, name=name)
            client.set_registered_model_alias(*arguments)

    move_best(Overtaken(), name)  # type: ignore[arg-type]
    assert best_accuracy(tracker, name) == 0.9


def test_a_registration_that_failed_on_the_way_continues(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Break the connection after the version was created: it leaves one, not two."""
    import mlflow

    real, broken = mlflow.MlflowClient.set_logged_model_tags, []

    def break_once(*arguments: Any, **options: Any) -> None:
        if not broken:
            broken.append(True)
            raise ConnectionError("the connection broke")
        real(*arguments, **options)

    monkeypatch.setattr(mlflow.MlflowClient, "set_logged_model_tags", break_once)
    register(tracker, 0.4, name="broken_ipc1")  # the end of the run tries again
    client = client_of(tracker.uri)
    assert [version.version for version in client.search_model_versions("name = 'broken_ipc1'")] == [1]
    assert best_accuracy(tracker, "broken_ipc1") == 0.4
    experiment = client.get_experiment_by_name("galaxies").experiment_id
    assert len(client.search_logged_models([experiment], "tags.`raydistill.identity` = '0.4'")) == 1
    assert len(warnings_of(caplog)) == 1


def test_moved_set_is_opened_by_alias_and_version(tracker: Tracker, tmp_path: Path) -> None:
    shutil.copytree(Path(tracker.uri.removeprefix("sqlite:///")).parent, tmp_path / "run")
    tracker, place = Tracker(default_uri(tmp_path / "run"), "galaxies"), tmp_path / "run" / "distilled-01"
    for name in (SELECTED, LAST):
        images = SyntheticImages(
            torch.zeros(2, 3, 4, 4), torch.eye(2), torch.ones(1), Normalisation((0.1,) * 3, (0.2,) * 3), 10
        )
        write_images(Folder(str(place)), name, images, {"class_names": ["a", "b"], "images_per_class": 1})
    manifest = commit(Folder(str(place)), kind="distilled", identity="ab", config={}, parents={}, seed=0, uris={})
    register(tracker, 0.5, str(place), "moved_ipc1")
    for uri in ("models:/moved_ipc1@best", "models:/moved_ipc1/1"):
        assert rd.open(uri, tracking_uri=tracker.uri).manifest == manifest
    shutil.move(tmp_path / "run", tmp_path / "moved")
    opened = rd.open("models:/moved_ipc1@best", tracking_uri=default_uri(tmp_path / "moved"))
    assert opened.folder.uri == str(tmp_path / "moved" / "distilled-01")


def test_names_that_lead_nowhere_give_one_sentence(tracker: Tracker, tmp_path: Path) -> None:
    register(tracker, 0.5, str(tmp_path / "gone"))
    client_of(tracker.uri).create_registered_model("empty")
    client_of(tracker.uri).create_model_version("empty", "/elsewhere")
    silent = f"http://127.0.0.1:{free_port()}"
    for uri, server, kind, sentence in (
        ("models:/spirals_ipc1", tracker.uri, ConfigError, "write models:/NAME@best or models:/NAME/3"),
        ("models:/spirals_ipc1@best", None, ConfigError, "set MLFLOW_TRACKING_URI"),
        ("models:/spirals_ipc1@best", f"sqlite:///{tmp_path}/no.db", ArtifactMissing, "there is no database"),
        ("models:/spirals_ipc1@best", silent, ArtifactError, "does not answer"),
        ("models:/spiral_ipc1@best", tracker.uri, ArtifactMissing, "did you mean 'spirals_ipc1'"),
        (
            "models:/spirals_ipc1@good",
            tracker.uri,
            ArtifactMissing,
            "no alias 'good'; its versions are 1, its aliases best",
        ),
        ("models:/spirals_ipc1/7", tracker.uri, ArtifactMissing, "no version 7; its versions are 1"),
        ("models:/spirals_ipc1@best", tracker.uri, ArtifactMissing, f"is the set in {tmp_path}/gone, which is gone"),
        ("models:/empty/1", tracker.uri, ArtifactIncompatible, "is not a distilled set of raydistill"),
    ):
        with pytest.raises(kind) as raised:
            rd.open(uri, tracking_uri=server)
        assert sentence in str(raised.value)
        assert str(raised.value).startswith(f"{uri}: ")
    assert not (tmp_path / "no.db").exists()


def test_a_registered_classifier_predicts_in_mlflow_and_holds_no_pickle(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    stored = classifier()
    model = Model(
        "networks", CLASSIFIER, "/there", "ab", "cc", 0.5, 0, "survey", "dd" * 32, save=stored.save, code=MODEL_CODE
    )
    with tracker.run("trajectories", identity="ab") as run:
        run.register(model)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    loaded = mlflow.pyfunc.load_model("models:/networks@best", dst_path=str(tmp_path))
    images = pictures(4, 20)
    assert loaded.predict(images).equals(stored.predict(images))
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"networks.safetensors", "model_code.py", "MLmodel"} <= files
    assert not [name for name in files if name.endswith(("pkl", "pt", "pth"))]


def test_a_custom_network_in_mlflow_is_imported_only_if_its_user_names_it(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    custom = Custom(factory="tests.unit.learning.test_networks:linear")
    parameters = initial_parameters(build_network(custom, len(NAMES), SIZE), 1)[None]
    stored = replace(classifier(), architecture=custom, parameters_EP=parameters)
    model = Model(
        "own_networks", CLASSIFIER, "/there", "ab", "cc", 0.5, 0, "survey", "dd" * 32, save=stored.save, code=MODEL_CODE
    )
    with tracker.run("trajectories", identity="ab") as run:
        run.register(model)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    with pytest.raises(ArtifactIncompatible, match="its network is the code 'tests"):
        mlflow.pyfunc.load_model("models:/own_networks@best", dst_path=str(tmp_path))
    loaded = mlflow.pyfunc.load_model("models:/own_networks@best", model_config={"custom": custom.factory})
    assert loaded.predict(pictures(2, SIZE)).equals(stored.predict(pictures(2, SIZE)))
