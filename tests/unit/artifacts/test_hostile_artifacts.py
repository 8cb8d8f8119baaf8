"""Artifacts of others run no code: they open, or are rejected with one sentence.

Each kind has small valid files. Their manifest and every value of their JSON are then replaced.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from raydistill.artifacts.display import open_artifact
from raydistill.artifacts.manifest import Parent, commit
from raydistill.artifacts.tables import write_rows
from raydistill.artifacts.tensors import read_tensors, write_tensors
from raydistill.diffusion.conditions import ConditionGroup, ConditionLayout
from raydistill.diffusion.sampling import Sampling
from raydistill.errors import RaydistillError
from raydistill.learning.calibration import Calibration
from raydistill.stages.adapt import artifact as adaptation
from raydistill.stages.analyse import artifact as analysis
from raydistill.stages.audit import artifact as audit
from raydistill.stages.audit.artifact import AuditSummary
from raydistill.stages.augment import artifact as augmentation
from raydistill.stages.curate import artifact as curated
from raydistill.stages.curate.select.conditions import ConditionEncoding
from raydistill.stages.curate.summary import ClassSummary, Summary
from raydistill.stages.detect import artifact as detection
from raydistill.stages.distill import artifact as distilled
from raydistill.stages.evaluate import artifact as evaluation
from raydistill.stages.evaluate.artifact import MAX_REPR, summarise
from raydistill.stages.experts import artifact as trajectories
from raydistill.stages.generate import artifact as generator
from raydistill.stages.generate.artifact import GeneratorSummary
from raydistill.stages.generate.config import GeneratorModel
from raydistill.stages.hunt import artifact as hunt
from raydistill.stages.hunt.artifact import HuntSummary, RoundSummary
from raydistill.stages.predict import artifact as predictions
from raydistill.stages.predict.artifact import CalibrationSummary, PredictionSummary
from raydistill.stages.pretrain import artifact as encoder
from raydistill.stages.pretrain.artifact import EncoderSummary
from raydistill.stages.sample import artifact as synthetic
from raydistill.stages.sample.artifact import SyntheticClass, SyntheticSummary
from raydistill.stages.similar import artifact as similar
from raydistill.stages.similar.artifact import SimilarSummary
from raydistill.stages.tune import artifact as search
from raydistill.storage import Folder
from raydistill.storage.checked import from_json, to_json
from raydistill.table import kinds

EVIL = "raydistill_evil_module"
CUSTOM = {"kind": "custom", "factory": f"{EVIL}:make", "options": {}}
SECRET = "a-secret-of-this-machine"
EVALUATED = {
    "subject": "distilled",
    "protocol": "",
    "network": "n",
    "accuracy": 0.5,
    "balanced_accuracy": 0.5,
    "calibration_error": 0.1,
    "confusion": [1],
    "predicted": [0],
}
CALIBRATION = CalibrationSummary(Calibration.none(1), "training", 1, (1.0,), 0, {})
STRINGS = (
    "../../../outside", "/etc/passwd", f"{EVIL}:make", "${oc.env:SECRET}", "<script>alert(1)</script>", "@pd.io.common.os.system('id')",
    "__import__('os')", "reference://::file:///x.json", "a\nb\0c", "\ud800", "=1+1", "", "long " * 1000,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *STRINGS,
    CUSTOM,
    [CUSTOM],
    {"__class__": "x", "self": 1},
    [[]] * 3,
    10**30,
    -1,
    1e400,
    None,
    True,
)


def _files(kind: str) -> dict[str, Any]:
    """Return the JSON files of a valid artifact of this kind, by name."""
    entry = SyntheticClass("a", 1, 0)
    layout = ConditionLayout((ConditionGroup("class", 2, ("a", "b")),))
    summaries: dict[str, dict[str, Any]] = {
        adaptation.KIND: {adaptation.REPORT: {"class_names": ["a"], "sets": {}}},
        analysis.KIND: {analysis.ORDER: ["morphology"]},
        audit.KIND: {audit.SUMMARY: AuditSummary("synthetic", "0", "s", False, 8, 1, 1, 1, 1, 1, ("scattering",), True, 9, 0)},
        augmentation.KIND: {augmentation.REPORT: {"class_names": ["a"], "results": []}},
        curated.KIND: {"summary.json": Summary("s", False, 8, 0.5, (0.1,) * 3, (0.1,) * 3, (ClassSummary("a", 1, 0, 0, 0, 0, None),), {})},
        detection.KIND: {detection.METRICS: {"figures": []}},
        evaluation.KIND: {evaluation.SUMMARY: summarise([EVALUATED], np.zeros(1, int), ["a"], "", "n")},
        encoder.KIND: {encoder.SUMMARY: EncoderSummary("s", False, 8, 0.5, False, (0.1,) * 3, (0.1,) * 3, 4, 1, 1, 1, 1)},
        generator.KIND: {generator.SUMMARY: json.loads(GeneratorSummary(
            survey="s", simulated=False, image_size=8, crop_fraction=0.5, aligned=False, class_names=("a", "b"), tree="",
            encoding=ConditionEncoding(layout), model=GeneratorModel(), sampling=Sampling(), num_images=1, num_parameters=1, steps=1,
            batch_size=1,
        ).to_json())},
        hunt.KIND: {hunt.SUMMARY: HuntSummary("t", "s", False, "a > 0", "seen", 1, 1, 1, 1, 1, 1, 0.5, ("real",))},
        hunt.ROUND_KIND: {hunt.ROUND: RoundSummary("t", "s", 1, 1, 1, 1, 1, "asinh", "ridge", ("a",))},
        predictions.KIND: {predictions.SUMMARY: PredictionSummary("s", ("a",), 0, {}, {}, 1, 0, 8, 0.5, False, CALIBRATION)},
        similar.KIND: {similar.SUMMARY: SimilarSummary("s", ("a",), (), "experts", 1, 1, 1)},
        synthetic.KIND: {"summary.json": SyntheticSummary(
            survey="s", simulated=False, image_size=8, crop_fraction=0.5, aligned=False, mean=(0.1,) * 3, std=(0.1,) * 3, tree="",
            classes=(entry,), unlabelled=entry, generator=None, condition=(("class", 2),), guidance=None, steps=None, seed=0,
            min_probability=None,
        )},
        trajectories.KIND: {"layout.json": {"names": ["w"], "shapes": [[2]], "num_experts": 1, "num_epochs": 1, "ends_only": False}},
    }  # fmt: skip
    result = summaries.get(kind, {})
    return {name: asdict(value) if hasattr(value, "__dataclass_fields__") else value for name, value in result.items()}


def write(folder: Folder, kind: str, config: Any = None, parents: dict[str, Parent] | None = None) -> dict[str, Any]:
    """Write an artifact; return its JSON files."""
    for name, value in (files := _files(kind)).items():
        folder.write(name, json.dumps(value).encode())
    if kind == audit.KIND:
        write_rows(folder, audit.FINDINGS, [], audit.FINDINGS_SCHEMA)
    if kind == evaluation.KIND:
        write_rows(folder, "runs.parquet", [], evaluation.RUNS_SCHEMA)
    if kind == search.KIND:
        write_rows(folder, search.TRIALS, [], search.TRIALS_SCHEMA)
    if kind == distilled.KIND:
        tensors = {"images": torch.zeros(1, 3, 8, 8), "targets": torch.ones(1, 1), "student_lrs": torch.ones(1)}
        info = {
            "class_names": ["a"],
            "images_per_class": 1,
            "mean": [0.1] * 3,
            "std": [0.1] * 3,
            "iteration": 1,
            "aligned": False,
        }
        for name in (distilled.SELECTED, distilled.LAST):
            write_tensors(folder, name, tensors, info)
    uris = {name: parent.uri for name, parent in (parents or {}).items()}
    commit(folder, kind=kind, identity="0" * 64, config=config or {}, parents=parents or {}, seed=0, uris=uris)
    return files


def replacements(value: Any) -> Iterator[Any]:
    """Yield copies of JSON data with one hostile value, or without one key."""
    yield from VALUES
    if isinstance(value, dict):
        for key in value:
            yield {name: entry for name, entry in value.items() if name != key}
            yield {**value, STRINGS[0]: 1}
            yield from ({**value, key: replaced} for replaced in replacements(value[key]))
    if isinstance(value, list):
        yield []
        for n, entry in enumerate(value[:1]):
            yield from ([*value[:n], replaced, *value[n + 1 :]] for replaced in replacements(entry))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with a module that must not be imported."""
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / f"{EVIL}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\nmake = None\n")
    (tmp_path / "outside").write_text("{}")
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.syspath_prepend(str(tmp_path / "cwd"))
    monkeypatch.setenv("SECRET", SECRET)
    yield tmp_path
    assert EVIL not in sys.modules
    names = {path.name for path in tmp_path.iterdir()}
    assert names <= {"cwd", "outside", "artifact", "cache"}, "a file was written"
    assert [path.name for path in (tmp_path / "cwd").iterdir() if path.name != "__pycache__"] == [f"{EVIL}.py"]


def opens_or_rejects(folder: Folder, *, verify: bool = True) -> bool:
    try:
        opened = open_artifact(folder, verify=verify)
    except RaydistillError as error:
        sentence = str(error)
        assert len(sentence.splitlines()) == 1
        assert SECRET not in sentence
        return False
    assert SECRET not in repr(vars(opened))
    assert len(repr(opened)) <= MAX_REPR
    return True


@pytest.mark.parametrize("kind", kinds())
def test_hostile_manifest_opens_without_running_code(kind: str, here: Path) -> None:
    hostile = {
        "network": CUSTOM,
        "distill": {"schedule": CUSTOM},
        "curate": CUSTOM,
        "generate": {"model": {"network": CUSTOM}},
    }
    hostile |= {f"key {n}": value for n, value in enumerate(VALUES) if value != "\ud800"}
    for n, uri in enumerate(
        ("../outside", "reference://::file:///x", "${oc.env:SECRET}", "https://127.0.0.1:9/x", "/etc")
    ):
        folder = Folder(here / "artifact" / str(n))
        write(folder, kind, hostile, {name: Parent("0", "0", uri) for name in ("curated", "trajectories", "generator")})
        assert opens_or_rejects(folder)


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a/../../outside", "a\0b", "..", "", ".", "a//b", "./a", "..\\x"]
)
@pytest.mark.parametrize("verify", [True, False])
def test_hostile_names_of_files_are_rejected(kind: str, name: str, verify: bool, here: Path) -> None:
    folder = Folder(here / "artifact")
    write(folder, kind)
    raw = from_json(folder.read("manifest.json"))
    raw["files"][name] = {"sha256": hashlib.sha256(b"{}").hexdigest(), "bytes": 2}
    folder.write("manifest.json", to_json(raw))
    assert not opens_or_rejects(folder, verify=verify)


@pytest.mark.parametrize("kind", [kind for kind in kinds() if _files(kind)])
def test_hostile_values_are_opened_or_rejected_with_one_sentence(kind: str, here: Path) -> None:
    folder = Folder(here / "artifact")
    for name, valid in write(folder, kind).items():
        assert opens_or_rejects(folder)
        for value in replacements(valid):
            (here / "artifact" / name).write_text(json.dumps(value))
            opens_or_rejects(folder, verify=False)
        for text in ("", "{", "[" * 100_000, "1" * 10_000, '{"a": NaN}', "\ufeff{}"):
            (here / "artifact" / name).write_text(text)
            assert not opens_or_rejects(folder, verify=False) or kind not in (curated.KIND, generator.KIND)


def test_hostile_headers_of_tensors_are_opened_or_rejected(here: Path) -> None:
    folder = Folder(here / "artifact")
    write(folder, distilled.KIND)
    tensors, info = read_tensors(folder, distilled.SELECTED)
    for value in replacements(info):
        if isinstance(value, dict):
            write_tensors(folder, distilled.SELECTED, tensors, value)
            opens_or_rejects(folder, verify=False)
    for name in tensors:
        write_tensors(folder, distilled.SELECTED, {key: tensor for key, tensor in tensors.items() if key != name}, info)
        assert not opens_or_rejects(folder, verify=False)


@pytest.mark.parametrize("kind", [audit.KIND, evaluation.KIND, search.KIND])
def test_hostile_tables_are_opened_or_rejected(kind: str, here: Path) -> None:
    folder, name = (
        Folder(here / "artifact"),
        {audit.KIND: audit.FINDINGS, search.KIND: search.TRIALS}.get(kind, "runs.parquet"),
    )
    write(folder, kind)
    for columns in ({"__class__": ["x"]}, {"feature": [EVIL]}, {"": [None]}):
        rows = [{key: values[0] for key, values in columns.items()}]
        write_rows(folder, name, rows, pa.table(columns).schema)
        opens_or_rejects(folder, verify=False)
    for content in (b"", b"PAR1", b"x" * 1000):
        folder.write(name, content)
        assert not opens_or_rejects(folder, verify=False)
