"""Start Ray Train's worker groups, and let their workers exchange tensors."""

from __future__ import annotations

import atexit
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray.train
import ray.train.backend
import ray.train.torch
import ray.util
import torch
import torch.distributed as dist
from ray.train.collective import broadcast_from_rank_zero
from torch import Tensor


class _NoProcessGroup(ray.train.backend.Backend):
    """Start workers without a process group, whose store listens on all interfaces."""

    share_cuda_visible_devices = True  # as Ray's own backend of torch


class IndependentWorkers(ray.train.torch.TorchConfig):
    """Configure workers that share nothing, or start their own `process_group`."""

    @property
    def backend_cls(self) -> type[ray.train.backend.Backend]:
        return _NoProcessGroup


class ExitAfterReport(ray.train.UserCallback):
    """Let Ray Train's controller exit before Ray's shutdown hooks, where 1 in 12 hung.

    Measured with Ray 2.60.0 (dev/log.md, 2026-11-25). Every worker must report once, at its end.
    """

    def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
        """Register the exit."""
        atexit.register(os._exit, 0)


@contextmanager
def process_group(gpus: float) -> Iterator[None]:
    """Join the process group of all workers of the group; a single worker needs none.

    torch's TCPStore listens on all interfaces unless it is given a socket, so the socket of worker 0
    is bound to the address of its node, which is 127.0.0.1 for a private Ray.

    Parameters
    ----------
    gpus
        GPUs of each worker. NCCL needs a whole one; below that, and without a GPU, gloo is used.
    """
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    if world_size == 1:
        yield
        return
    server = socket.create_server((ray.util.get_node_ip_address(), 0)) if rank == 0 else None
    host, port = broadcast_from_rank_zero(server and server.getsockname()[:2])
    store = dist.TCPStore(host, port, world_size, rank == 0, master_listen_fd=server.detach() if server else None)
    dist.init_process_group("nccl" if gpus >= 1 else "gloo", store=store, rank=rank, world_size=world_size)
    try:
        yield
    finally:
        dist.destroy_process_group()


def gather(tensors: list[Tensor]) -> list[Tensor]:
    """Return tensors of all workers, on the devices of `tensors`.

    Parameters
    ----------
    tensors
        Tensors of this worker; each worker has equally many, of equal shapes.

    Returns
    -------
    list
        The first tensor of each worker, then the second of each, and so on.
    """
    if not dist.is_initialized():
        return tensors
    gathered = []
    for tensor in tensors:
        sent = tensor if dist.get_backend() == "nccl" else tensor.cpu()
        parts = [torch.empty_like(sent) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, sent)
        gathered += [part.to(tensor.device) for part in parts]
    return gathered
