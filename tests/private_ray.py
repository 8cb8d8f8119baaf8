"""Start a private Ray for tests, and train without its processes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray
import ray.train

from raydistill.runtime.cluster import set_environment, start_private


@contextmanager
def private_ray(object_store_mb: int, num_gpus: int = 0) -> Iterator[None]:
    """Hold a Ray of two logical CPUs and `num_gpus` logical GPUs for the body.

    Remove its session folder afterwards.
    """
    set_environment()
    folder = tempfile.mkdtemp(prefix="rd-ray-")  # short: the path of a unix socket has at most 107 bytes
    start_private(num_cpus=2, num_gpus=num_gpus, object_store_memory=object_store_mb * 2**20, _temp_dir=folder)
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def training_here() -> Iterator[None]:
    """Let Ray Train run its loop in this process, for tests of what a training makes.

    It is Ray's own mode of no workers. Otherwise each training starts six processes and more.
    """
    here = ray.train.ScalingConfig(num_workers=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray.train, "ScalingConfig", lambda **_: here)
        yield
