"""The configs import quickly; torchvision may be one that does not fit torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raydistill.imports import import_beside_torchvision

MISFIT = """
import sys
from pathlib import Path
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
from raydistill.imports import import_beside_torchvision
print(import_beside_torchvision("needs_torchvision").ANSWER)
"""


def test_module_is_imported_after_the_registration_of_operators_fails(tmp_path: Path) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from torchvision import _meta_registrations\n")
    (package / "_meta_registrations.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    (tmp_path / "needs_torchvision.py").write_text("import torchvision\nANSWER = 42\n")
    result = subprocess.run([sys.executable, "-c", MISFIT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "42", result.stderr


def test_workers_do_not_import_slow_packages_that_few_of_them_use() -> None:
    """Every process of every stage imports the configs.

    A second more is a second for each of them.
    """
    slow = {"scipy.stats", "sklearn", "astropy", "matplotlib", "mlflow", "diffusers", "torchvision"}
    code = f"import raydistill.stages.experts.worker, sys; print({slow} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_the_coordinator_of_the_experts_imports_no_torch() -> None:
    """Its process starts before those of the workers can."""
    code = "import raydistill.stages.experts.coordinator, sys; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_other_errors_of_an_import_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('no GPU driver')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="no GPU driver"):
        import_beside_torchvision("broken_module")
    with pytest.raises(ImportError):
        import_beside_torchvision("no_such_module_of_raydistill")
