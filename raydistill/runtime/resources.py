"""Resources of the cluster: capacity, number of workers, CPUs, memory and devices."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydistill.config import Resources
from raydistill.errors import ClusterError
from raydistill.log import get_logger

log = get_logger(__name__)

CAPACITY_CHECK_INTERVAL = 60.0  # seconds between two looks at the cluster's machines while no task ends


@dataclass(frozen=True)
class Processor:
    """Torch threads and GPUs of one worker process."""

    threads: int
    gpus: float

    @classmethod
    def of(cls, resources: Resources) -> Processor:
        """Return those of a worker of any stage but distill."""
        return cls(resources.worker_threads, resources.gpus)

    def __str__(self) -> str:
        return "GPUs" if self.gpus else f"{self.threads} {'thread' if self.threads == 1 else 'threads'} of a CPU"

    def enter(self) -> str:
        """Set the threads of this process; return the torch device.

        Raises
        ------
        ClusterError
            torch cannot use the GPU.
        """
        import torch

        torch.set_num_threads(self.threads)
        return device_of(self.gpus)


def data_options(resources: Resources) -> dict[str, Any]:
    """Return the arguments of Ray Data for a worker.

    On GPUs, the CPUs are left to the tasks that read.
    """
    return {"num_cpus": 0 if resources.gpus else resources.cpus, "num_gpus": resources.gpus}


def group_options(resources: Resources) -> dict[str, Any]:
    """Return the arguments of a `ray.train.ScalingConfig` for the workers of a group."""
    gpus = {"GPU": resources.gpus} if resources.gpus else {}
    return {"use_gpu": bool(gpus), "resources_per_worker": {"CPU": resources.cpus, **gpus}}


def choose_num_workers(resources: Resources, num_tasks: int, distill_cpus: float | None = None) -> int:
    """Return how many workers to request.

    Parameters
    ----------
    resources
        CPUs and GPUs of a worker, and the requested number of workers.
    num_tasks
        Upper limit: a stage requests no more workers than it has tasks.
    distill_cpus
        CPUs of each distilling process; None for workers of any other stage.

    Returns
    -------
    int
        `resources.workers`, or by default the capacity of the cluster; at least 1.

    Raises
    ------
    ClusterError
        No machine has the resources of one worker.
    """
    cpus, gpus, prefix = _requested(resources, distill_cpus)
    _ensure(resources, cpus, gpus, prefix)
    capacity = sum(node_capacity(node, cpus, gpus) for node in alive_nodes())
    return max(1, min(num_tasks, resources.workers or capacity))


def choose_distill_cpus(resources: Resources, num_slots: int, max_useful: int) -> int:
    """Return the CPUs of one distilling process.

    The default divides the largest machine that has the GPUs by the slots of an iteration.
    More CPUs than `max_useful` would not make a step faster.
    """
    if resources.distill_cpus:
        return resources.distill_cpus
    # A cluster may have to grow before its machines can be counted.
    ensure_schedulable(resources, 1)
    cpus = [int(node.get("CPU", 0)) for node in alive_nodes() if node.get("GPU", 0) >= resources.distill_gpus]
    return max(1, min(max_useful, max(cpus, default=1) // num_slots))


def ensure_schedulable(resources: Resources, distill_cpus: float | None = None) -> None:
    """Raise ClusterError unless one machine has the CPUs and GPUs of a worker.

    Without the check, Ray would wait without end.

    An autoscaling cluster (an address and `resources.workers` are set) is asked for such a machine.
    It has `resources.growth_seconds` to start one.

    Parameters
    ----------
    resources
        CPUs and GPUs of a worker.
    distill_cpus
        CPUs of each distilling process; None for workers of any other stage.
    """
    _ensure(resources, *_requested(resources, distill_cpus))


def _requested(resources: Resources, distill_cpus: float | None) -> tuple[float, float, str]:
    """Return the CPUs and GPUs of a worker, and the prefix of their keys."""
    if distill_cpus is None:
        return resources.cpus, resources.gpus, ""
    return distill_cpus, resources.distill_gpus, "distill_"


def _ensure(resources: Resources, cpus: float, gpus: float, prefix: str) -> None:
    if _is_schedulable(cpus, gpus):
        return
    timeout = resources.growth_seconds
    may_grow = resources.workers is not None and bool(resources.address or os.environ.get("RAY_ADDRESS"))
    if may_grow:
        log.info("Ray: waiting for a machine with %g CPUs and %g GPUs, %g s at most", cpus, gpus, timeout)
        # The task ends with this driver. Cancelling it while it ran has ended the driver inside
        # Ray.
        request = ray.remote(num_cpus=cpus, num_gpus=gpus)(_hold_resources).remote()
        if ray.wait([request], timeout=timeout)[0] or _is_schedulable(cpus, gpus):
            return
    most = [max((node.get(name, 0) for node in alive_nodes()), default=0) for name in ("CPU", "GPU")]
    raise ClusterError(
        f"one worker needs {cpus:g} CPUs and {gpus:g} GPUs, no machine of the cluster has more than {most[0]:g} and {most[1]:g}"
        + (f" (after {timeout:g} s)" if may_grow else ""),
        "resources",
        f"lower resources.{prefix}cpus or resources.{prefix}gpus, use a larger cluster, or set resources.workers on one that can grow",
    )


def check_memory(resources: Resources, workers: int, bytes_per_worker: int, stage: str) -> None:
    """Warn if the workers of one machine need more than its memory.

    `bytes_per_worker` is a lower bound.
    """
    for node in alive_nodes():
        count, memory = min(workers, node_capacity(node, resources.cpus, resources.gpus)), node.get("memory", 0)
        if count * bytes_per_worker > memory > 0:
            log.warning(
                "%s: each of the %d workers of a machine will hold the training images, %.1f GB in all, and it has %.1f GB; "
                "give fewer resources.workers, or a lower curate.per_class or image_size",
                stage, count, count * bytes_per_worker / 1e9, memory / 1e9,
            )  # fmt: skip
            return


def alive_nodes() -> list[dict[str, float]]:
    """Return the resources of each machine of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def node_capacity(node: dict[str, float], cpus: float, gpus: float) -> int:
    """Return how many workers fit on a machine.

    A worker does not span two machines, and a fraction of a GPU does not span two GPUs.
    """
    by_cpu = int(node.get("CPU", 0) / cpus + 1e-9)
    if not gpus:
        return by_cpu
    by_gpu = int(node.get("GPU", 0)) * int(1 / gpus + 1e-9) if gpus < 1 else int(node.get("GPU", 0) / gpus)
    return min(by_cpu, by_gpu)


def on_driver_node() -> NodeAffinitySchedulingStrategy:
    """Place an actor on the driver's machine, so that both die together or not at all."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def device_of(gpus: float) -> str:
    """Return the torch device for these GPUs; ClusterError if torch cannot use them."""
    import torch

    if gpus and not torch.cuda.is_available():
        raise ClusterError(
            f"Ray gave a worker a GPU that torch {torch.__version__} cannot use",
            socket.gethostname(),
            "install a torch for its driver there, or set the gpus of resources to 0",
        )
    if not gpus:
        return "cpu"
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32; lower precision is precision=bfloat16
    return "cuda"


def _is_schedulable(cpus: float, gpus: float) -> bool:
    return any(node_capacity(node, cpus, gpus) for node in alive_nodes())


def _hold_resources() -> None:
    """Do nothing: the task only requests its resources."""
