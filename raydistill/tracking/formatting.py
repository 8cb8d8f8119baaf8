"""Format names, tags, parameters and inputs as MLflow accepts them.

This module imports no mlflow.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydistill.artifacts.manifest import source_commit
from raydistill.errors import RaydistillError

NOTE = "mlflow.note.content"  # Markdown, at the top of the page of a run
TABLES = "mlflow.loggedArtifacts"  # the artifacts that MLflow shows as tables
VIEW = "raydistill"  # the saved view of an experiment's runs, of MLflow's menu "Views"
COLUMNS = (
    "metrics.`distilled/balanced_accuracy`",
    "metrics.`class_mean/balanced_accuracy`",
    "metrics.`random_images/balanced_accuracy`",
    "metrics.`experts/balanced_accuracy`",
)  # of that view
# mlflow/utils/validation.py, 3.17: longer values are refused, or cut without a warning
MAX_TAG, MAX_PARAM, MAX_NAME, MAX_DIGEST = 8000, 6000, 250, 36


@dataclass(frozen=True)
class InputDataset:
    """A data set that a run reads.

    Parameters
    ----------
    name
        Its name in MLflow.
    digest
        The sha256 of its content.
    source
        A path or a URI.
    num_rows
        Number of galaxies; None if unknown.
    context
        What the run reads it for: `training`, `evaluation` or `curation`.
    """

    name: str
    digest: str
    source: str
    num_rows: int | None = None
    context: str = "training"


def format_tags(stage: str, identity: str, parents: Mapping[str, str], parent_run_id: str | None) -> dict[str, str]:
    """Return the tags of a stage's run, including MLflow's own (`mlflow.*`)."""
    tags = {"raydistill.stage": stage, "raydistill.identity": identity}
    tags |= {valid_name(f"raydistill.parent.{kind}"): digest for kind, digest in parents.items()}
    tags |= {"mlflow.source.name": f"raydistill {stage}", "mlflow.source.type": "LOCAL"}
    if parent_run_id is not None:
        tags["mlflow.parentRunId"] = parent_run_id
    if commit := source_commit():
        tags["mlflow.source.git.commit"] = commit
    return tags


def experiment_tags(experiment_id: str) -> dict[str, str]:
    """Return an experiment's tags: kind, description, and a view of its runs.

    MLflow 3.17 opens an experiment on a page for language models, whatever its kind, if it is
    reached from the start page. The description leads from there to the runs.
    """
    view = {"name": "Accuracies", "createdAt": 0, "state": json.dumps({"selectedColumns": COLUMNS})}
    link = f"[Show them with their accuracies](#{runs_path(experiment_id)})"
    return {
        # The value is that of MLflow's own JavaScript.
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW}": json.dumps(view),
        NOTE: f"Runs of raydistill. {link}. A run of the pipeline has the runs of its stages below it.",
    }


def runs_path(experiment_id: str) -> str:
    """Return the page of an experiment's runs, below the `#` of a server's address."""
    return f"/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"


def search_tags(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags for a search of runs.

    They are survey, network, images per class, method, schedule, seed and the config's name.
    """
    survey, distill = config.get("survey", {}), config.get("distill", {})
    tags = {
        "config": config.get("name"),
        "survey": Path(str(place)).stem
        if (place := survey.get("catalog") or survey.get("root"))
        else survey.get("kind"),
        "network": config.get("network", {}).get("kind"),
        "ipc": distill.get("images_per_class"),
        "method": method_of(config) if "name" in config else None,  # a trial has only the values of its recipe
        "schedule": distill.get("schedule", {}).get("kind"),
        "seed": config.get("seed"),
    }
    return {name: str(value)[:MAX_TAG] for name, value in tags.items() if value is not None}


def method_of(config: Mapping[str, Any]) -> str:
    """Return the published method whose distinguishing feature a config has.

    A recipe may mix several features. The first of them in the order below decides.
    """
    distill, training = config.get("distill", {}), config.get("experts", {}).get("training", {})
    features = {  # the names are those of configs/methods and configs/parts
        "heads": distill.get("objective", {}).get("kind") == "ridge",
        "pad": bool(distill.get("skip_layers")),
        "datm": distill.get("labels") == "soft" and distill.get("init") == "correct",
        "tesla": distill.get("engine") == "constant-adjoint",
        "att": distill.get("match_at") == "nearest",
        "mct": distill.get("trajectories") == "straight",
        "stm": distill.get("schedule", {}).get("kind") == "self-adaptive",
        "ftd": training.get("flat") is not None,
    }
    return next((name for name, has_it in features.items() if has_it), "mtt")


def format_params(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return nested values by dotted name, as text of at most `MAX_PARAM`."""
    params = {}
    for name, value in _leaves(tree):
        text = str(value)
        if len(text) > MAX_PARAM:
            note = f" … [cut: {len(text)} characters]"
            text = text[: MAX_PARAM - len(note)] + note
        params[valid_name(name)] = text
    return params


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def format_input(dataset: InputDataset) -> dict[str, Any]:
    """Return the arguments of `mlflow.entities.Dataset`.

    MLflow cuts digests to 36 characters, so the profile holds the whole digest.
    """
    scheme = re.match(r"([a-z0-9]+)://", dataset.source)
    source_type = scheme[1] if scheme and scheme[1] != "file" else "local"
    return {
        "name": dataset.name,
        "digest": dataset.digest[:MAX_DIGEST],
        "source_type": "http" if source_type == "https" else source_type,
        "source": json.dumps({"url" if source_type.startswith("http") else "uri": dataset.source}),
        "profile": json.dumps({"num_rows": dataset.num_rows, "digest": dataset.digest}),
    }


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as `mlflow.log_table` writes them; NaN and infinity become null.

    Floats are rounded to 4 decimals.
    """

    def plain(value: Any) -> Any:
        if not isinstance(value, float):
            return value
        return round(value, 4) if math.isfinite(value) else None

    columns = list(dict.fromkeys(name for row in rows for name in row))
    return json.dumps({"columns": columns, "data": [[plain(row.get(name)) for name in columns] for row in rows]})


def valid_name(name: str) -> str:
    """Return a name that MLflow accepts.

    It is a relative path of letters, digits and `_-. :/`, at most 250 characters long.
    """
    tidy = re.sub(r"/{2,}", "/", re.sub(r"[^\w.\- :/]", "_", name))[:MAX_NAME].strip("/")
    return re.sub(r"(^|/)\.{1,2}(?=/|$)|^\.\.", r"\1_", tidy) or "_"


def error_message(error: Exception) -> str:
    """Return the value of the tag `raydistill.error`."""
    return str(error) if isinstance(error, RaydistillError) else f"{type(error).__name__}: {error}"
