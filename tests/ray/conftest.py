"""Share one private Ray, and the tiny run's artifacts, among the pipeline's tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from ray_tools import SILENT, tiny

from raydistill.pipeline.plan import Plan
from tests.private_ray import private_ray


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    with private_ray(object_store_mb=100):
        yield


@pytest.fixture(scope="session")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder that all processes of pytest share."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    root.mkdir(exist_ok=True)
    return root


def make_once(root: Path, name: str, make: Callable[[], object]) -> None:
    """Make artifacts in the first process that asks for them.

    The others wait. `name` tells one `make` of a root from another.
    """
    done = root / f"{name}.done"
    with FileLock(root / f"{name}.lock"):
        if not done.exists():
            make()
            done.touch()


@pytest.fixture(scope="session")
def curated_root(cluster: None, shared_root: Path) -> Path:
    """Return a run folder with the tiny survey and curated set.

    Write only to a `copy_of` it.
    """
    from raydistill.pipeline.curate.stage import curate
    from raydistill.pipeline.simulate.stage import simulate

    def make() -> None:
        simulate(Plan(tiny(shared_root)), SILENT)
        curate(Plan(tiny(shared_root)), SILENT)

    make_once(shared_root, "curated", make)
    return shared_root


@pytest.fixture(scope="session")
def trained_root(curated_root: Path) -> Path:
    """Add the experts, trained by two workers; return the run folder."""
    from raydistill.pipeline.experts.stage import experts

    plan = Plan(tiny(curated_root, "resources.workers=2"))
    make_once(curated_root, "trained", lambda: experts(plan, SILENT))
    return curated_root


@pytest.fixture(scope="session")
def distilled_root(trained_root: Path) -> Path:
    """Add the distilled set; return the run folder."""
    from raydistill.pipeline.distill.stage import distill

    make_once(trained_root, "distilled", lambda: distill(Plan(tiny(trained_root)), SILENT))
    return trained_root
