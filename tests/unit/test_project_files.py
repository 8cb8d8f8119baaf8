"""Check the files of CI, of the issue forms and of the hooks.

The files need valid YAML, supported Pythons and existing tools.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
FORMS = sorted(set((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) - {ROOT / ".github/ISSUE_TEMPLATE/config.yml"})
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def job() -> Any:
    return yaml.safe_load(WORKFLOW.read_text())["jobs"]["test"]


def test_workflow_runs_on_pushes_and_pull_requests() -> None:
    triggers = yaml.safe_load(WORKFLOW.read_text())[True]  # YAML 1.1 reads the key `on` as true
    assert triggers.keys() == {"push", "pull_request"}


def test_workflow_runs_every_python_of_requires_python(job: Any) -> None:
    lowest, below = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()  # type: ignore[union-attr]
    supported = [f"3.{minor}" for minor in range(int(lowest), int(below))]
    assert job["strategy"]["matrix"]["python"] == supported
    setup = next(step for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python@"))
    assert setup["with"]["python-version"] == "${{ matrix.python }}"
    assert (ROOT / setup["with"]["cache-dependency-path"]).is_file()


def test_workflow_and_local_ci_call_the_same_make_test(job: Any) -> None:
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == ["make setup PYTHON=python", "make test"]
    assert "\nmake test " in (ROOT / ".ci" / "run").read_text()
    assert re.search(r"^test:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_there_is_a_form_for_bugs_surveys_and_methods() -> None:
    assert [path.stem for path in FORMS] == ["bug", "method", "survey"]
    assert "make check" in (ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md").read_text()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_form_has_what_github_requires(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= form.keys()
    for field in form["body"]:
        assert field["type"] in {"markdown", "input", "textarea"}
        assert field["attributes"]["value" if field["type"] == "markdown" else "label"]


def test_files_named_by_the_issue_forms_exist() -> None:
    named = {name for path in FORMS for name in re.findall(r"\b(docs/[\w/-]+\.md|configs/)", path.read_text())}
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_hooks_call_pinned_tools_of_the_environment_and_download_nothing() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local"
    lock = (ROOT / "requirements.lock").read_text()
    packages = {"ruff": "ruff", "mypy": "mypy", "lint-imports": "import-linter"}
    called = set()
    for hook in local["hooks"]:
        assert hook["language"] == "system"
        tool = hook["entry"].split()[0].removeprefix(".venv/bin/")
        assert f"\n{packages[tool]}==" in lock
        called.add(tool)
    assert called == packages.keys()
