"""Check the dependency direction of the packages.

import-linter checks the source; subprocesses in which ray and mlflow cannot be imported check the run time.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "raydistill"
LIBRARY = ("statistics", "learning", "distillation")
PURE_PACKAGES = (
    "galaxies",
    "diffusion",
    "morphology",
    "simulation",
    "storage",
    "datasets",
    "artifacts",
    "config",
    "figures",
    "stages/audit/science",
    "stages/hunt/science",
)
PURE_MODULES = (
    "raydistill.errors",
    "raydistill.escaping",
    "raydistill.imports",
    "raydistill.log",
    "raydistill.seeding",
)
# The library of distillation may import these and the standard library.
LIBRARIES = {"torch", "numpy", "scipy", "geomloss", "lazy_loader"}
INTERNAL = (
    *(f"raydistill.{name}" for name in LIBRARY),
    "raydistill.errors",
    "raydistill.escaping",
    "raydistill.imports",
    "raydistill.seeding",
    "raydistill.table",
    "raydistill.text",
)


def modules(package: str) -> list[str]:
    """Return the dotted names of all modules of a package."""
    names = [path.relative_to(ROOT).with_suffix("").parts for path in sorted((PACKAGE / package).rglob("*.py"))]
    return [".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in names]


def test_import_contracts() -> None:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    result = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if result.returncode:
        report = result.stdout[result.stdout.find("Broken contracts") :] + result.stderr
        pytest.fail(f"A package imports from one above it. import-linter reports:\n{report}", pytrace=False)


IMPORT_WITHOUT_RAY = """
import importlib, json, os, sys

class Blocker:
    "Make ray and mlflow unimportable, as on a machine without them."
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "mlflow"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
before = dict(os.environ)
failed, loaded = {}, []
for names in json.loads(sys.argv[1]):
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            failed[name] = str(error)
    loaded.append([name for name in sys.modules if name.startswith("raydistill.")])
changed = sorted(name for name in before.keys() | os.environ if before.get(name) != os.environ.get(name))
print(json.dumps({"failed": failed, "loaded": loaded, "changed": changed}))
"""


@pytest.fixture(scope="module")
def pure_import() -> dict[str, Any]:
    """Import the library, then all pure packages, in a process without ray and mlflow."""
    others = [*PURE_MODULES, *(name for package in PURE_PACKAGES for name in modules(package))]
    library = [name for package in LIBRARY for name in modules(package)]
    assert "raydistill.distillation.distiller" in library
    assert {"raydistill.artifacts.manifest", "raydistill.galaxies.tree"} < set(others)
    assert {"raydistill.simulation.simulate", "raydistill.storage", "raydistill.config.tree"} < set(others)
    result: dict[str, Any] = json.loads(run_python(IMPORT_WITHOUT_RAY, json.dumps([library, others])))
    return result


def test_pure_packages_need_neither_ray_nor_mlflow(pure_import: dict[str, Any]) -> None:
    assert not pure_import["failed"], "these modules cannot be imported without ray and mlflow"


def test_importing_the_library_loads_no_other_package(pure_import: dict[str, Any]) -> None:
    after_library = pure_import["loaded"][0]
    foreign = [name for name in after_library if not name.startswith(INTERNAL)]
    assert not foreign, f"the library imports packages above or beside it: {foreign}"


def test_importing_pure_packages_changes_no_environment_variable(pure_import: dict[str, Any]) -> None:
    assert not pure_import["changed"]


def test_import_blocker_blocks_ray_and_mlflow() -> None:
    result = json.loads(run_python(IMPORT_WITHOUT_RAY, json.dumps([["ray", "mlflow", "ray.data"]])))
    assert result["failed"].keys() == {"ray", "mlflow", "ray.data"}


def imports_of(path: Path) -> Iterator[str]:
    """Yield top-level imports of a module, not of functions or `if TYPE_CHECKING`."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


def test_the_library_imports_only_numerical_packages() -> None:
    files = [path for package in LIBRARY for path in sorted((PACKAGE / package).rglob("*.py"))]
    foreign = {(path.name, name) for path in files for name in imports_of(path) if not allowed_in_the_library(name)}
    assert not foreign, (
        f"the library may import {sorted(LIBRARIES)}, {INTERNAL} and the standard library, not {foreign}"
    )


def allowed_in_the_library(name: str) -> bool:
    if name.startswith("raydistill"):
        return name.startswith(INTERNAL)
    top = name.split(".")[0]
    return top in sys.stdlib_module_names or top in LIBRARIES


def test_mlflow_is_imported_by_its_client_and_by_the_code_of_a_model_in_mlflow() -> None:
    importers = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^\s*(import|from) mlflow\b", path.read_text(), re.MULTILINE)
    ]
    assert sorted(importers) == ["stages/experts/classify/model_code.py", "tracking/mlflow_client.py"]


def test_no_file_is_longer_than_400_lines() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): n
        for path in PACKAGE.rglob("*.py")
        if (n := path.read_text().count("\n")) > 400
    }
    assert not long, f"split these files by idea: {long}"


def test_version_is_defined_in_one_place() -> None:
    import raydistill

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["version"]["path"] == "raydistill/__init__.py"
    assert raydistill.__version__


def run_python(program: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()[-1]


# ---- nothing from outside runs ----

PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
# Calls that evaluate text, start programs, or read Python objects.
RUN_CODE = {
    "eval", "exec", "compile", "__import__", "query", "system", "popen", "Popen", "read_pickle", "read_hdf", "torch.load",
    "yaml.load", "full_load", "unsafe_load", "load_all", "load_dataset", "literal_eval", "Template", "extractall",
}  # fmt: skip
IMPORTERS = {
    "learning/architectures.py",
    "imports.py",
    "table.py",
}  # they import modules by names that are not constants


def may_run_code(path: Path) -> Iterator[str]:
    """Yield what a module does that could run code from data."""
    tree = ast.parse(path.read_text())
    inside = path.relative_to(PACKAGE).as_posix()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in PICKLES)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        last, text = name.rpartition(".")[2], f"line {node.lineno}: {ast.unparse(node)[:80]}"
        harmless = name in ("re.compile", "torch.compile") or (last == "eval" and not node.args)  # of a torch module
        if inside == "exporting/foreign.py" and name == "torch.load":  # tensors alone, of another project
            harmless = keywords.get("weights_only") == "True"
        if {name, last} & RUN_CODE and not harmless:
            yield text
        is_own = node.args and ast.unparse(node.args[0]).startswith(("'", "f'raydistill."))
        if last == "import_module" and inside not in IMPORTERS and not is_own:
            yield text
        if name in ("np.load", "np.save", "np.lib.format.read_array") and keywords.get("allow_pickle") != "False":
            yield text
        if {"shell", "trust_remote_code"} & keywords.keys() or keywords.get("weights_only") == "False":
            yield text
        # Pillow starts Ghostscript for a file that is PostScript.
        if (
            name == "Image.open"
            and inside.startswith(("artifacts", "pipeline", "stages", "surveys"))
            and "formats" not in keywords
        ):
            yield text


def test_the_package_runs_no_code_from_data() -> None:
    result = {path.relative_to(PACKAGE).as_posix(): list(may_run_code(path)) for path in PACKAGE.rglob("*.py")}
    assert {name: lines for name, lines in result.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    ["frame.eval(text)", "frame.query(text)", "eval(text)", "import pickle", "from joblib import load", "np.load(path)",
     "np.load(path, allow_pickle=True)", "pd.read_pickle(path)", "torch.load(path)", "yaml.load(text)", "os.system(text)",
     "importlib.import_module(name)", "subprocess.run(text, shell=True)", "Image.open(path)"],
)  # fmt: skip
def test_calls_that_run_code_are_found(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "x.py").write_text(f"{line}\nmodel.eval()\nre.compile(text)\n")
    assert len(list(may_run_code(tmp_path / "pipeline" / "x.py"))) == 1


@pytest.mark.parametrize("folder", ["benchmarks", "examples", "jobs", "dev"])
def test_programs_import_names_that_exist(folder: str) -> None:
    missing = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("raydistill"):
                module = importlib.import_module(node.module or "")
                names = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                missing += [name for name in names if importlib.util.find_spec(f"{node.module}.{name}") is None]
    assert not missing
