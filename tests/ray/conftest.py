"""One private Ray for all tests of the pipeline, and the tiny run's survey, curated set and experts, made once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray_tools import SILENT, tiny

from raydistill.pipeline.cluster import set_environment, start_private
from raydistill.pipeline.plan import Plan


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Two logical CPUs, whatever the machine has. Its session folder is removed at the end."""
    set_environment()
    folder = tempfile.mkdtemp(prefix="rd-ray-")  # short: the path of a unix socket has at most 107 bytes
    start_private(
        num_cpus=2,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level="warning",
        _temp_dir=folder,
    )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def curated_root(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the tiny run's survey and curated set. Read only: take a `copy_of` it."""
    from raydistill.pipeline.curate import curate
    from raydistill.pipeline.simulate import simulate

    root = tmp_path_factory.mktemp("curated")
    simulate(Plan(tiny(root)), SILENT)
    curate(Plan(tiny(root)), SILENT)
    return root


@pytest.fixture(scope="session")
def trained_root(curated_root: Path) -> Path:
    """The same with the tiny run's experts, trained by two workers."""
    from raydistill.pipeline.experts import experts

    experts(Plan(tiny(curated_root, "resources.workers=2")), SILENT)
    return curated_root


@pytest.fixture(scope="session")
def distilled_root(trained_root: Path) -> Path:
    """The same with the tiny run's distilled set."""
    from raydistill.pipeline.distill import distill

    distill(Plan(tiny(trained_root)), SILENT)
    return trained_root
