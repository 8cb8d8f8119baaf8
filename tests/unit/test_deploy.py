"""deploy/: what KubeRay's custom resources accept, checked against their schema, in which unknown keys are errors; what Ray takes as a
runtime environment; and what jobs and images carry of this folder."""

from __future__ import annotations

import copy
import fnmatch
import gzip
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from raydistill import __version__
from raydistill.pipeline.runtime.cluster import set_environment

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
    assert f"ARG RAY={cluster['rayVersion']}-py311-gpu\n" in (ROOT / "deploy" / "Dockerfile").read_text()


# ---- the environment of a node and of a job ----

# What Ray reads in the process that starts a run, wherever that is: no business of the nodes.
OF_THE_DRIVER = ("RAY_TRAIN_", "RAY_USAGE_", "RAY_ACCEL_")


@pytest.fixture
def of_a_node(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a private Ray sets for itself, and a cluster has to be started with."""
    found: dict[str, str] = {}
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", found)
        set_environment()
    return {name: value for name, value in found.items() if not name.startswith(OF_THE_DRIVER)}


@pytest.mark.parametrize(
    "file", ["deploy/Dockerfile", "deploy/slurm/raydistill.sbatch", "docs/how-to/cluster.md", "cluster.yaml"]
)
def test_nodes_are_started_with_what_a_private_ray_sets_for_itself(file: str, of_a_node: dict[str, str]) -> None:
    assert {"OMP_WAIT_POLICY", "RAY_worker_niceness", "MALLOC_ARENA_MAX", "RAY_task_oom_retries"} <= set(of_a_node)
    words = (ROOT / file).read_text().split()
    assert [pair for name, value in of_a_node.items() if (pair := f"{name}={value}") not in words] == []


def test_the_runtime_environment_is_one_of_rays(monkeypatch: pytest.MonkeyPatch, of_a_node: dict[str, str]) -> None:
    from ray.runtime_env import RuntimeEnv

    monkeypatch.chdir(ROOT)  # from where jobs are submitted
    given = yaml.safe_load((ROOT / "deploy" / "runtime_env.yaml").read_text())
    environment = RuntimeEnv(**given)
    assert set(given) <= set(RuntimeEnv.known_fields), "Ray takes an unknown key for a plugin's"
    assert environment["pip"]["packages"] == (ROOT / "requirements.lock").read_text().strip().split("\n")
    assert int(environment["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) >= 60
    of_workers = {name: value for name, value in of_a_node.items() if not name.startswith("RAY_")}
    assert environment["env_vars"].items() >= of_workers.items()
    with pytest.raises(ValueError, match="is not a valid file"):
        RuntimeEnv(**given | {"pip": "requirements.lok"})


def test_ray_reads_there_how_long_a_stopped_job_may_take() -> None:
    import ray.dashboard.modules.job.job_supervisor as supervisor

    assert '"RAY_JOB_STOP_WAIT_TIME_S"' in Path(supervisor.__file__).read_text()
    for file in ("deploy/Dockerfile", "cluster.yaml"):
        assert "RAY_JOB_STOP_WAIT_TIME_S=60" in (ROOT / file).read_text().split()


# ---- what jobs and images carry of this folder ----


def test_a_job_carries_less_than_a_megabyte_and_all_that_it_needs(tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    create_package(str(ROOT), tmp_path / "job.zip", include_gitignore=True)  # as `ray job submit --working-dir .`
    with zipfile.ZipFile(tmp_path / "job.zip") as package:
        names = package.namelist()
    assert {"jobs/run.py", "raydistill/cli.py", "configs/demo.yaml"} <= set(names)
    assert not {name.partition("/")[0] for name in names} & {".git", ".venv", "runs", "tests", "docs", "benchmarks"}
    assert (tmp_path / "job.zip").stat().st_size < 1e6


def left_by_docker(name: str) -> bool:
    """Whether .dockerignore leaves a path of this folder in the image: the last match decides, for parents too."""
    parents = [str(parent) for parent in Path(name).parents if str(parent) != "."]
    if not all(map(left_by_docker, parents)):
        return False
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    fitting = [line for line in lines if fnmatch.fnmatch(name, line.removeprefix("!").removeprefix("**/"))]
    return not fitting or fitting[-1].startswith("!")


def test_an_image_holds_what_a_run_needs_and_nothing_of_this_machine() -> None:
    needed = [
        "raydistill",
        "configs",
        "jobs",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "requirements.lock",
        ".rayignore",
    ]
    assert [name for name in needed if not left_by_docker(name)] == []
    ignored = [line.strip("/") for file in (".gitignore", ".rayignore") for line in (ROOT / file).read_text().split()]
    assert {".venv", ".git", "runs", ".*_cache"} <= set(ignored)
    assert [name for name in ignored if left_by_docker(name)] == []


def test_every_fault_has_a_test_that_is_there() -> None:
    """docs/reliability.md names them."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "reliability.md").read_text())
    assert len(named) > 20
    assert [f"{file}::{test}" for file, test in named if f"def {test}" not in (ROOT / file).read_text()] == []
