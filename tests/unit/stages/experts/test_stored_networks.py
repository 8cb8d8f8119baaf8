"""A network of an artifact runs code only if the user's config names this code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raydistill.artifacts.manifest import Parent, commit
from raydistill.config.tree import plain
from raydistill.errors import ArtifactError, ArtifactIncompatible
from raydistill.learning.architectures import AnswerNetwork, Architecture, ConvNet, Custom
from raydistill.learning.networks import Layout
from raydistill.learning.timm_networks import Timm
from raydistill.stages.evaluate.baselines import load_teachers
from raydistill.stages.experts.artifact import TrajectoryStore, write_layout
from raydistill.stages.experts.classify.classifier import PictureClassifier, expert_network, read_architecture
from raydistill.storage import Folder
from tests.unit.stages.classifier_tools import classifier

MODULE = "network_of_somebody"
CODE = """
from pathlib import Path
from torch import nn

Path("imported").touch()

def make(num_classes, image_size, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, num_classes))
"""
CUSTOM = Custom(factory=f"{MODULE}:make")
ANSWERS = AnswerNetwork(base=CUSTOM, questions=(2,), paths=(((0,),), ((1,),)))
GALAXIES: Any = SimpleNamespace(num_classes=2, summary=SimpleNamespace(image_size=8))
LAYOUT = Layout(("1.weight", "1.bias"), ((2, 192), (2,)))


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with the module; return the file that its import writes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path(f"{MODULE}.py").write_text(CODE)
    yield tmp_path / "imported"
    sys.modules.pop(MODULE, None)


def store(network: Any, layout: Layout = LAYOUT) -> TrajectoryStore:
    folder = Folder("experts")
    write_layout(folder, layout, 1, (0, 1))
    config = {"network": network} if network is not None else {}
    commit(folder, kind="trajectories", identity="0" * 64, config=config, parents={}, seed=0, uris={})
    return TrajectoryStore.open(folder)


@pytest.mark.parametrize("stored", [CUSTOM, ANSWERS], ids=["custom", "answers"])
@pytest.mark.parametrize("networks", [(), (ConvNet(),), (Custom(factory="tests.zoo:make"),)])
def test_code_that_the_config_does_not_name_is_not_imported(
    stored: Architecture, networks: tuple[Architecture, ...], module: Path
) -> None:
    with pytest.raises(ArtifactIncompatible) as caught:
        expert_network(store(plain(stored)), GALAXIES, networks)
    assert str(caught.value).endswith(
        f"experts: its network is the code '{MODULE}:make', which your config does not name; "
        "if you trust this code, name it in evaluate.other_networks"
    )
    assert not module.exists()
    assert MODULE not in sys.modules


def test_code_that_the_config_names_is_imported(module: Path) -> None:
    network = expert_network(store(plain(CUSTOM)), GALAXIES, (ConvNet(), Custom(factory=CUSTOM.factory)))
    assert network.layout == LAYOUT
    assert module.exists()


def test_experts_of_another_distilled_set_are_left_out(module: Path, caplog: pytest.LogCaptureFixture) -> None:
    experts = store(plain(CUSTOM))
    parents = {"trajectories": Parent(experts.manifest.identity, experts.manifest.content, experts.folder.uri)}
    distilled: Any = SimpleNamespace(
        manifest=SimpleNamespace(kind="distilled", parents=parents), folder=Folder("distilled")
    )
    config = SimpleNamespace(networks=(ConvNet(),))
    plan: Any = SimpleNamespace(trajectories=SimpleNamespace(identity="other", folder=Folder("none")), config=config)
    with caplog.at_level(logging.WARNING):
        assert load_teachers(plan, distilled, GALAXIES) is None
    assert "the experts are left out (" in caplog.text
    assert f"its network is the code '{MODULE}:make'" in caplog.text
    assert not module.exists()
    config.networks = (CUSTOM,)
    teachers = load_teachers(plan, distilled, GALAXIES)
    assert teachers is not None
    assert teachers.architecture == CUSTOM


def test_classifier_imports_named_code_alone(module: Path, tmp_path: Path) -> None:
    replace(classifier(), architecture=CUSTOM).save(Folder(tmp_path / "classifier"))
    with pytest.raises(ArtifactIncompatible, match="which your config does not name"):
        PictureClassifier.load(Folder(tmp_path / "classifier"))
    assert PictureClassifier.load(Folder(tmp_path / "classifier"), [CUSTOM]).architecture == CUSTOM
    assert not module.exists(), "loading imports nothing"


def test_files_of_weights_are_read_for_networks_of_the_config_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights")  # reading it would never end
    stored = Timm(model="test_convnext", weights=str(tmp_path / "weights"))
    for named in ((), (ConvNet(),), (Timm(model="test_convnext"),)):
        read = read_architecture(plain(stored), "here", named)
        assert isinstance(read, Timm)
        assert (read.model, read.weights, read.batch_norm) == ("test_convnext", None, "fold")
    assert read_architecture(plain(stored), "here", (stored,)) == stored


@pytest.mark.parametrize(
    "network",
    [None, "convnet", 1, [], {}, {"kind": "evil"}, {"kind": "custom"}, {"kind": "custom", "factory": 1},
     {"kind": "convnet", "depth": "x"}, {"kind": "convnet", "depth": 99}, {"kind": "mlp", "width": 7},
     {"kind": "answers", "base": {"kind": "custom", "factory": f"{MODULE}:make"}}, {"kind": "timm", "model": "hf-hub:x/y"},
     {"kind": "timm", "model": "no_such_model"}],
)  # fmt: skip
def test_damaged_networks_are_rejected_with_one_sentence(network: Any, module: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        expert_network(store(network), GALAXIES)
    assert len(str(caught.value).splitlines()) == 1
    assert not module.exists()
