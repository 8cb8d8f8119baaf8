"""Start Ray Train's worker groups."""

from __future__ import annotations

import atexit
import os
from typing import Any

import ray.train
import ray.train.backend
import ray.train.torch


class _NoProcessGroup(ray.train.backend.Backend):
    """Start workers without a process group, whose store torch lets listen on all interfaces."""

    share_cuda_visible_devices = True  # as Ray's own backend of torch


class IndependentWorkers(ray.train.torch.TorchConfig):
    """Configure workers that share nothing."""

    @property
    def backend_cls(self) -> type[ray.train.backend.Backend]:
        return _NoProcessGroup


class ExitAfterReport(ray.train.UserCallback):
    """Let Ray Train's controller exit before Ray's shutdown hooks, where 1 controller in 12 hung.

    Measured with Ray 2.60.0 (docs/log.md, 2026-11-25). Every worker must report once, at its end.
    """

    def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
        """Register the exit."""
        atexit.register(os._exit, 0)
