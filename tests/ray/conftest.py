"""Share one private Ray, and the tiny run's artifacts, among the pipeline's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_tools import SILENT, tiny

from raydistill.pipeline.plan import Plan
from tests.private_ray import private_ray


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    with private_ray(object_store_mb=100):
        yield


@pytest.fixture(scope="session")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder that all processes of pytest share.

    A stage runs in the first of them; it holds the lease, and the others wait for its artifact.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    root.mkdir(exist_ok=True)
    return root


@pytest.fixture(scope="session")
def curated_root(cluster: None, shared_root: Path) -> Path:
    """Return a run folder with the tiny survey and curated set.

    Write only to a `copy_of` it.
    """
    from raydistill.stages.curate.stage import curate
    from raydistill.stages.simulate.stage import simulate

    simulate(Plan(tiny(shared_root)), SILENT)
    curate(Plan(tiny(shared_root)), SILENT)
    return shared_root


@pytest.fixture(scope="session")
def trained_root(curated_root: Path) -> Path:
    """Add the experts, trained by two workers; return the run folder."""
    from raydistill.stages.experts.stage import experts

    experts(Plan(tiny(curated_root, "resources.workers=2")), SILENT)
    return curated_root


@pytest.fixture(scope="session")
def distilled_root(trained_root: Path) -> Path:
    """Add the distilled set; return the run folder."""
    from raydistill.stages.distill.stage import distill

    distill(Plan(tiny(trained_root)), SILENT)
    return trained_root
