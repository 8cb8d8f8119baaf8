"""Workloads of `bench.py` and `gpu.py`, on random images and by ConvNet-D3-W128.

They are a matching iteration and a step of an expert.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from raydistill.distillation.engines import engine_options
from raydistill.distillation.matching import Batch, Matcher
from raydistill.learning.architectures import ConvNet
from raydistill.learning.arithmetic import EngineName, Precision
from raydistill.learning.augment import Augmentation
from raydistill.learning.losses import student_loss
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.options import Training
from raydistill.learning.training import _gradient


def matching(
    engine: EngineName,
    steps: int,
    *,
    classes: int,
    side: int,
    ipc: int,
    precision: Precision = "float32",
    compile: bool = False,
    memory_mb: float | None = None,
    device: str = "cpu",
) -> Callable[[], Any]:
    """Return a function that matches once: `steps` student steps, and back.

    Each step uses all `ipc` images per class.
    """
    network = build_network(ConvNet(), classes, side)
    start = initial_parameters(network, 0)
    target = start + 0.001 * torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    images = torch.randn(classes * ipc, 3, side, side, generator=torch.Generator().manual_seed(1))
    targets = torch.eye(classes).repeat_interleave(ipc, dim=0)
    start, target, images, targets, lr = (x.to(device) for x in (start, target, images, targets, torch.tensor(0.01)))
    loss = student_loss(network, Augmentation(), precision)
    loss(start, images, targets, {})
    matcher = Matcher(loss, engine_options(engine, compile=compile, memory_mb=memory_mb))
    return partial(matcher.match, start, target, images, targets, lr, [Batch(None, {})] * steps)


def training_step(training: Training, *, classes: int, side: int, device: str = "cpu") -> Callable[[], Any]:
    """Return a function that computes the gradient of one batch of an expert."""
    network = build_network(ConvNet(), classes, side)
    size = training.batch_size
    images = torch.randn(size, 3, side, side, generator=torch.Generator().manual_seed(1))
    targets = torch.eye(classes)[torch.arange(size) % classes]
    tensors = (tensor.to(device) for tensor in (initial_parameters(network, 0), images, targets))
    return partial(_gradient(network, training.resolved(), None), *tensors, {})
