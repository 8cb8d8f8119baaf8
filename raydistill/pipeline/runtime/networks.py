"""Build a network once per worker process: compiled code is cached with the object."""

from __future__ import annotations

from functools import lru_cache

from raydistill.core.architectures import Architecture
from raydistill.core.networks import Network, build_network


@lru_cache(maxsize=8)
def worker_network(architecture: Architecture, num_classes: int, image_size: int) -> Network:
    """Return the network of this process for images of this size [px]."""
    return build_network(architecture, num_classes, image_size)
