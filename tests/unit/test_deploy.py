"""deploy/kuberay is what KubeRay's custom resources accept: checked against their schema, in which unknown keys are errors."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from raydistill import __version__

ROOT = Path(__file__).parents[2]
# Version v1 of RayCluster and RayJob, from helm-chart/kuberay-operator/crds of github.com/ray-project/kuberay at feeaf72fa
# (Apache-2.0), as JSON without descriptions.
SCHEMAS = json.loads(gzip.decompress((ROOT / "tests" / "data" / "kuberay-v1.json.gz").read_bytes()))
FILES = sorted((ROOT / "deploy" / "kuberay").glob("*.yaml"))


def closed(schema: Any) -> Any:
    """What Kubernetes would drop in silence, a key that the schema does not name, becomes an error."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(found.get("properties"), dict) and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    if found.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    return found


def problems(resource: dict[str, Any]) -> list[str]:
    """`metadata` is Kubernetes' own, of which the schema says nothing."""
    wanted = closed(SCHEMAS[resource["kind"]])
    wanted["properties"]["metadata"] = {"type": "object"}
    return [
        f"{error.json_path}: {error.message}" for error in jsonschema.Draft202012Validator(wanted).iter_errors(resource)
    ]


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def resource(request: pytest.FixtureRequest) -> Any:
    return yaml.safe_load(request.param.read_text())


def test_there_are_two() -> None:
    assert [path.stem for path in FILES] == ["raycluster", "rayjob"]


def test_kuberay_accepts_it(resource: dict[str, Any]) -> None:
    assert problems(resource) == []


def test_a_wrong_key_and_a_wrong_type_are_noticed(resource: dict[str, Any]) -> None:
    wrong = copy.deepcopy(resource)
    of_cluster = wrong["spec"].get("rayClusterSpec", wrong["spec"])
    of_cluster["workerGroupSpecs"][0]["maxReplikas"] = 3
    of_cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] = 7
    found = " ".join(problems(wrong))
    assert "maxReplikas" in found
    assert "7 is not of type 'string'" in found


def test_job_and_cluster_are_the_same_cluster() -> None:
    cluster, job = (yaml.safe_load(path.read_text())["spec"] for path in FILES)
    assert job["rayClusterSpec"] == cluster


def test_versions_are_those_of_the_project(resource: dict[str, Any]) -> None:
    cluster = resource["spec"].get("rayClusterSpec", resource["spec"])
    lock = (ROOT / "requirements.lock").read_text()
    assert f"\nray=={cluster['rayVersion']}\n" in lock
    images = [
        g["template"]["spec"]["containers"][0]["image"]
        for g in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    ]
    assert set(images) == {f"REGISTRY/raydistill:{__version__}"}
    assert f"ARG RAY={cluster['rayVersion']}-py311\n" in (ROOT / "deploy" / "Dockerfile").read_text()
