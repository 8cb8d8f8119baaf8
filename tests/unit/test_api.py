"""The public API: its names, what importing it costs, and configs with overrides."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import raydistill as rd
from raydistill.artifacts.manifest import Manifest
from raydistill.storage.checked import to_json


def test_every_public_name_can_be_imported_and_has_a_docstring() -> None:
    for name in rd.__all__:
        assert getattr(rd, name).__doc__, name


def test_importing_the_package_loads_neither_torch_nor_ray() -> None:
    program = (
        "import sys, json, raydistill; print(json.dumps([m for m in ('torch', 'ray', 'mlflow') if m in sys.modules]))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(loaded) == []


def test_overrides_of_a_name_and_of_a_config_give_the_same_config() -> None:
    overrides = ("distill.iterations=50", "output=elsewhere")
    assert rd.load_config("demo", *overrides) == rd.load_config(rd.load_config("demo"), *overrides)


def test_a_path_object_names_a_config_file() -> None:
    path = Path(__file__).parents[2] / "configs" / "demo.yaml"
    assert rd.load_config(path) == rd.load_config("demo")


def test_overrides_of_a_config_are_read_as_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDISTILL_TEST_OUTPUT", "elsewhere")
    config = rd.load_config(
        rd.load_config("demo"), "search.space={ema: [1e-3, 2e-3]}", "output=${oc.env:RAYDISTILL_TEST_OUTPUT}/runs"
    )
    assert config.search.space == {"ema": [0.001, 0.002]}
    assert config.output == "elsewhere/runs"


@pytest.mark.parametrize(
    "override",
    [
        "distill.iterations",
        "distill.iteration=50",
        "distill.iterations=many",
        "distill.iterations=[1",
        "=3",
        "output=${outpt}",
    ],
)
def test_a_wrong_override_is_rejected(override: str) -> None:
    for config in ("demo", rd.load_config("demo")):
        with pytest.raises(rd.ConfigError):
            rd.load_config(config, override)


def test_opening_a_folder_without_a_manifest_says_so(tmp_path: Path) -> None:
    with pytest.raises(rd.ArtifactMissing, match="never finished"):
        rd.open(tmp_path)
    with pytest.raises(rd.ArtifactMissing, match="no artifact"):
        rd.open(tmp_path / "absent")


def test_opening_a_damaged_manifest_or_an_unknown_kind_says_so(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{")
    with pytest.raises(rd.ArtifactCorrupt, match="damaged"):
        rd.open(tmp_path)
    known = Manifest("galaxies", "a", "b", 0, {}, {}, {})
    manifest.write_bytes(to_json(asdict(known)))
    with pytest.raises(rd.ArtifactIncompatible, match="'galaxies'"):
        rd.open(tmp_path)


def test_function_of_a_stage_is_made_once_and_can_be_pickled() -> None:
    assert rd.distill is rd.distill
    assert pickle.loads(pickle.dumps(rd.distill)) is rd.distill
