"""Check the files of deploy/.

- KubeRay's resources against their schema, with unknown keys as errors;
- the runtime environment against Ray's fields;
- the files that a job package and an image contain.
"""

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
from raydistill.runtime.cluster import set_environment

ROOT = Path(__file__).parents[2]
# Version v1 of RayCluster and RayJob, from helm-chart/kuberay-operator/crds of
# github.com/ray-project/kuberay at feeaf72fa (Apache-2.0), as JSON without descriptions.
SCHEMAS = json.loads(gzip.decompress((ROOT / "tests" / "data" / "kuberay-v1.json.gz").read_bytes()))
FILES = sorted((ROOT / "deploy" / "kuberay").glob("*.yaml"))


def closed(schema: Any) -> Any:
    """Return the schema with unknown keys as errors; Kubernetes drops them silently."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if isinstance(result.get("properties"), dict) and not result.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    if result.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    return result


def problems(resource: dict[str, Any]) -> list[str]:
    """Return the errors of a resource; `metadata` is not in the schema.

    `metadata` belongs to Kubernetes.
    """
    schema = closed(SCHEMAS[resource["kind"]])
    schema["properties"]["metadata"] = {"type": "object"}
    return [
        f"{error.json_path}: {error.message}" for error in jsonschema.Draft202012Validator(schema).iter_errors(resource)
    ]


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def resource(request: pytest.FixtureRequest) -> Any:
    return yaml.safe_load(request.param.read_text())


def test_there_is_a_cluster_and_a_job() -> None:
    assert [path.stem for path in FILES] == ["raycluster", "rayjob"]


def test_kuberay_accepts_it(resource: dict[str, Any]) -> None:
    assert problems(resource) == []


def test_a_wrong_key_and_a_wrong_type_are_noticed(resource: dict[str, Any]) -> None:
    wrong = copy.deepcopy(resource)
    cluster = wrong["spec"].get("rayClusterSpec", wrong["spec"])
    cluster["workerGroupSpecs"][0]["maxReplikas"] = 3
    cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] = 7
    message = " ".join(problems(wrong))
    assert "maxReplikas" in message
    assert "7 is not of type 'string'" in message


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


def test_image_and_pods_run_as_the_same_user_who_is_not_root(resource: dict[str, Any]) -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    uid = int(re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)[-1])
    assert uid >= 10_000  # no user of the base image, whose `ray` may use sudo
    assert f"useradd --uid {uid} --gid users --create-home" in dockerfile
    home = re.search(r"HOME=(\S+)", dockerfile)
    assert home is not None
    assert re.findall(r"^WORKDIR (\S+)$", dockerfile, re.MULTILINE) == [f"{home[1]}/raydistill"]
    assert f"COPY --chown=raydistill:users . {home[1]}/raydistill" in dockerfile
    cluster = resource["spec"].get("rayClusterSpec", resource["spec"])
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        context = group["template"]["spec"]["securityContext"]
        assert context == {"runAsNonRoot": True, "runAsUser": uid, "fsGroup": 100}
    job = yaml.safe_load(resource["spec"].get("runtimeEnvYAML", "{}"))
    assert job.get("working_dir", f"{home[1]}/raydistill") == f"{home[1]}/raydistill"


def test_actions_are_pinned_by_commit() -> None:
    used = [
        line.strip()
        for path in (ROOT / ".github" / "workflows").glob("*.y*ml")
        for line in path.read_text().splitlines()
        if "uses:" in line
    ]
    assert used
    assert [line for line in used if not re.fullmatch(r"- uses: [\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line)] == []


# ---- the environment of a node and of a job ----

# Ray reads these in the process that starts a run, not on the nodes.
DRIVER_PREFIXES = ("RAY_TRAIN_", "RAY_USAGE_", "RAY_ACCEL_")


@pytest.fixture
def node_variables(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the variables that a private Ray sets and a cluster must be started with."""
    variables: dict[str, str] = {}
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", variables)
        set_environment()
    return {name: value for name, value in variables.items() if not name.startswith(DRIVER_PREFIXES)}


@pytest.mark.parametrize(
    "file", ["deploy/Dockerfile", "deploy/slurm/raydistill.sbatch", "docs/how-to/cluster.md", "cluster.yaml"]
)
def test_nodes_start_with_the_variables_of_a_private_ray(file: str, node_variables: dict[str, str]) -> None:
    assert {"OMP_WAIT_POLICY", "RAY_worker_niceness", "MALLOC_ARENA_MAX", "RAY_task_oom_retries"} <= set(node_variables)
    words = (ROOT / file).read_text().split()
    assert [pair for name, value in node_variables.items() if (pair := f"{name}={value}") not in words] == []


def test_runtime_environment_has_only_fields_of_ray(
    monkeypatch: pytest.MonkeyPatch, node_variables: dict[str, str]
) -> None:
    from ray.runtime_env import RuntimeEnv

    monkeypatch.chdir(ROOT)  # from where jobs are submitted
    given = yaml.safe_load((ROOT / "deploy" / "runtime_env.yaml").read_text())
    environment = RuntimeEnv(**given)
    assert set(given) <= set(RuntimeEnv.known_fields), "Ray treats an unknown key as a plugin"
    assert environment["pip"]["packages"] == (ROOT / "requirements.lock").read_text().strip().split("\n")
    assert int(environment["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) >= 60
    worker_variables = {name: value for name, value in node_variables.items() if not name.startswith("RAY_")}
    assert environment["env_vars"].items() >= worker_variables.items()
    with pytest.raises(ValueError, match="is not a valid file"):
        RuntimeEnv(**given | {"pip": "requirements.lok"})


def test_ray_reads_the_grace_period_of_a_stopped_job() -> None:
    import ray.dashboard.modules.job.job_supervisor as supervisor

    assert '"RAY_JOB_STOP_WAIT_TIME_S"' in Path(supervisor.__file__).read_text()
    for file in ("deploy/Dockerfile", "cluster.yaml"):
        assert "RAY_JOB_STOP_WAIT_TIME_S=60" in (ROOT / file).read_text().split()


# ---- contents of job packages and images ----


def test_job_package_is_complete_and_below_four_megabytes(tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    create_package(str(ROOT), tmp_path / "job.zip", include_gitignore=True)  # as `ray job submit --working-dir .`
    with zipfile.ZipFile(tmp_path / "job.zip") as package:
        names = package.namelist()
    assert {"jobs/run.py", "raydistill/cli/base.py", "configs/demo.yaml"} <= set(names)
    folders = {name.partition("/")[0] for name in names}
    assert not folders & {".git", ".venv", "runs", "tests", "docs", "dev", "benchmarks"}
    assert (tmp_path / "job.zip").stat().st_size < 4e6


def in_image(name: str) -> bool:
    """Return whether .dockerignore lets a path into the image.

    The last match decides, also for its parents.
    """
    parents = [str(parent) for parent in Path(name).parents if str(parent) != "."]
    if not all(map(in_image, parents)):
        return False
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    fitting = [line for line in lines if fnmatch.fnmatch(name, line.removeprefix("!").removeprefix("**/"))]
    return not fitting or fitting[-1].startswith("!")


def test_image_has_all_files_of_a_run_and_no_local_ones() -> None:
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
    assert [name for name in needed if not in_image(name)] == []
    ignored = [line.strip("/") for file in (".gitignore", ".rayignore") for line in (ROOT / file).read_text().split()]
    assert {".venv", ".git", "runs", ".*_cache"} <= set(ignored)
    assert [name for name in ignored if in_image(name)] == ["raydistill/sets"]  # an image has released sets


def test_tests_named_in_the_reliability_page_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "reliability.md").read_text())
    assert len(named) > 20
    assert [f"{file}::{test}" for file, test in named if f"def {test}" not in (ROOT / file).read_text()] == []
