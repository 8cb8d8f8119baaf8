"""Compute the experts' features and probabilities of pictures in Ray tasks.

The pictures are galaxies and prototypes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import ray
import torch

from raydistill.config import Resources
from raydistill.learning.architectures import Architecture
from raydistill.log import progress
from raydistill.runtime.resources import device_of
from raydistill.runtime.tasks import run_tasks, worker_task
from raydistill.stages.experts.ensemble import load_experts

Floats = npt.NDArray[np.float64]
CHUNK = 256  # pictures of a task: it decides the bits, so it is no option


class Described(NamedTuple):
    """One expert's features float64 [N, F] and mean probabilities float64 [N, K].

    The features are the first expert's; the mean is over all experts.
    """

    features_NF: Floats
    probabilities_NK: Floats


@dataclass(frozen=True)
class Describer:
    """Describe pictures by the experts; picklable, the same on any number of workers.

    Parameters
    ----------
    trajectories, curated
        URIs of the experts and of their curated set.
    resources
        CPUs and GPUs of a task, and the number of tasks at once.
    own
        The networks of the user's config.
    """

    trajectories: str
    curated: str
    resources: Resources
    own: tuple[Architecture, ...] = ()

    def __call__(self, images_NHWC: npt.NDArray[np.uint8], what: str) -> Described:
        """Return features and probabilities of uint8 pictures [N, H, W, 3].

        `what` names them in the progress.
        """
        images: Any = ray.put(images_NHWC)
        remote: Any = worker_task(_describe, self.resources)
        starts = range(0, len(images_NHWC), CHUNK)
        parts: dict[int, Described] = {}
        with progress(len(images_NHWC), f"describing {what}", "pictures") as shown:
            for start, part in run_tasks(starts, lambda start: remote.remote(self, images, start), self.resources):
                parts[start] = part
                shown.advance(len(part.features_NF))
        return Described(*(np.concatenate(arrays) for arrays in zip(*(parts[n] for n in starts), strict=True)))


def _describe(describer: Describer, images_NHWC: npt.NDArray[np.uint8], start: int) -> Described:
    torch.set_num_threads(describer.resources.worker_threads)
    device = device_of(describer.resources.gpus)
    ensemble, normalisation = _experts(
        describer.trajectories, describer.curated, device, features=True, own=describer.own
    )
    pixels = normalisation.apply(torch.tensor(images_NHWC[start : start + CHUNK])).to(device)
    prediction = ensemble.predict(pixels)
    return Described(prediction.features_NF.double().cpu().numpy(), prediction.mean_NK.double().cpu().numpy())


_experts = lru_cache(maxsize=1)(load_experts)
