"""The rooms of the house: who may import whom, at rest (import-linter) and at run time (with ray and mlflow out of reach)."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "raydistill"
PURE_ROOMS = ("core", "galaxies", "datasets", "artifacts", "analysis")
# What core may bring in at import, besides the standard library and what these need themselves.
CORE_MAY_IMPORT = {"torch", "numpy", "scipy"}
CORE_MAY_IMPORT_OF_OURS = ("raydistill.core", "raydistill.errors", "raydistill.seeding")


def modules(room: str) -> list[str]:
    """Dotted names of all modules in a folder of the package."""
    names = [path.relative_to(ROOT).with_suffix("").parts for path in sorted((PACKAGE / room).rglob("*.py"))]
    return [".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in names]


def test_import_contracts() -> None:
    """The contracts of pyproject.toml; layers that name modules not written yet count as broken."""
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    answer = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if answer.returncode:
        told = answer.stdout[answer.stdout.find("Broken contracts") :] + answer.stderr
        pytest.fail(f"A room imports from one above it. import-linter says:\n{told}", pytrace=False)


BLOCKED = """
import importlib, json, sys

class Wall:
    "Makes ray and mlflow unimportable, as on a machine without them."
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "mlflow"}:
            raise ImportError(f"{name} is out of reach here")

sys.meta_path.insert(0, Wall())
failed, rooms = {}, []
for names in json.loads(sys.argv[1]):
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            failed[name] = str(error)
    rooms.append([name for name in sys.modules if name.startswith("raydistill.")])
print(json.dumps([failed, rooms]))
"""


@pytest.fixture(scope="module")
def walled() -> tuple[dict[str, str], list[str]]:
    """What cannot be imported with ray and mlflow out of reach, and what of ours is there after importing core alone."""
    others = [name for room in PURE_ROOMS for name in modules(room)] + ["raydistill.config", "raydistill.log"]
    assert {"raydistill.core.distiller", "raydistill.artifacts.manifest", "raydistill.galaxies.tree"} < set(others)
    failed, (after_core, _) = json.loads(python(BLOCKED, json.dumps([modules("core"), others])))
    return failed, after_core


def test_pure_rooms_need_neither_ray_nor_mlflow(walled: tuple[dict[str, str], list[str]]) -> None:
    failed, _ = walled
    assert not failed, f"these modules cannot be imported without ray and mlflow: {failed}"


def test_importing_core_brings_in_no_other_room(walled: tuple[dict[str, str], list[str]]) -> None:
    strangers = [name for name in walled[1] if not name.startswith(CORE_MAY_IMPORT_OF_OURS)]
    assert not strangers, f"core imports rooms above or beside it: {strangers}"


def test_the_wall_of_that_test_stands() -> None:
    """Else it would prove nothing."""
    failed, _ = json.loads(python(BLOCKED, json.dumps([["ray", "mlflow", "ray.data"]])))
    assert failed.keys() == {"ray", "mlflow", "ray.data"}


def imported(path: Path) -> Iterator[str]:
    """What a module imports at import time, which leaves out what is under `if TYPE_CHECKING` or inside a function."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


def test_core_imports_torch_numpy_scipy_and_little_else() -> None:
    files = sorted((PACKAGE / "core").glob("*.py"))
    foreign = {(path.name, name) for path in files for name in imported(path) if not allowed_in_core(name)}
    assert not foreign, f"core may import {sorted(CORE_MAY_IMPORT)}, {CORE_MAY_IMPORT_OF_OURS} and the standard library"


def allowed_in_core(name: str) -> bool:
    if name.startswith("raydistill"):
        return name.startswith(CORE_MAY_IMPORT_OF_OURS)
    top = name.split(".")[0]
    return top in sys.stdlib_module_names or top in CORE_MAY_IMPORT


def test_only_one_file_imports_mlflow() -> None:
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^\s*(import|from) mlflow\b", path.read_text(), re.MULTILINE)
    ]
    assert found in ([], ["pipeline/tracking/mlflow_client.py"]), (
        f"mlflow belongs into pipeline/tracking alone, not into {found}"
    )


def test_no_file_is_longer_than_400_lines() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): n
        for path in PACKAGE.rglob("*.py")
        if (n := path.read_text().count("\n")) > 400
    }
    assert not long, f"split these by idea: {long}"


def test_the_version_is_in_one_place() -> None:
    import raydistill

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["version"]["path"] == "raydistill/__init__.py"
    assert raydistill.__version__


def python(program: str, *arguments: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip().splitlines()[-1]
