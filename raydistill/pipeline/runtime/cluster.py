"""Ray: attach to a cluster or start a private one, and share its workers out.

A job submitted with `ray job submit` finds its cluster by itself; a laptop gets a private one that ends with the command.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydistill.config import Resources
from raydistill.errors import ClusterError, RaydistillError
from raydistill.log import get_logger
from raydistill.pipeline.runtime.signals import raise_on_sigterm
from raydistill.storage import Folder

log = get_logger(__name__)

_MEGABYTE = 2**20
STARTS = 3  # that a private Ray is given
START_SECONDS = 60.0  # of a group of workers whose machines are there
PROGRESS_INTERVAL = 1.0  # of a worker that streams how far it is
CAPACITY_CHECK_INTERVAL = 60.0  # for machines, where nothing runs or ends
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
# A private Ray has no dashboard, which would cost 1 GB, and passes no lines on: nobody reads what its processes count, trace and follow.
# On two cores that two workers keep busy, all of it is 4 % of one (docs/log.md).
QUIET_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "RAY_task_events_report_interval_ms": "0",
    "REPORTER_UPDATE_INTERVAL_MS": "60000",  # of what each process takes
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",  # new log files are looked for at every so many seconds, not ten times a second
    "LOG_NAME_UPDATE_INTERVAL_S": "60",
}


@contextmanager
def ray_cluster(resources: Resources, output: Folder) -> Iterator[None]:
    """A Ray cluster for the body: the one at hand, the one at `address`, or a private one, which may take minutes to come; ArtifactError
    before that where nothing can be written to `output`."""
    if ray.is_initialized():
        yield
        return
    output.check_writable()
    set_environment()
    _start(resources)
    try:
        yield
    finally:
        ray.shutdown()


def set_environment() -> None:
    """What Ray and its workers read at their start; what a user has set stays."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Threads that spin at a barrier, and workers that yield to everybody, crawl when one core is busy: 1.5 s an iteration of the demo
    # against .7 s with these two (.43 and .49 s on a quiet machine; docs/log.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("RAY_worker_niceness", "0")
    # By default glibc gives freed activations back to the kernel, which clears their pages anew at the next step: .76 s an expert's step
    # (W128, batch 64) against .45 s with these three (docs/log.md). Ray Train's loop is a thread, whose own arena would go on doing so.
    for name, value in (("MMAP_THRESHOLD_", 10**9), ("TRIM_THRESHOLD_", 10**9), ("ARENA_MAX", 1)):
        os.environ.setdefault(f"MALLOC_{name}", str(value))
    # Ray would start a task again for ever that was ended for want of memory.
    os.environ.setdefault("RAY_task_oom_retries", "3")
    # A worker reports once, when no expert is left; at the default 2 s poll, a group's end and a lost worker's would cost a second more.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "1")
    # An actor, seconds of imports at every start, that would tell workers of a preemption, which they need not know: an expert is saved
    # after every epoch, distilling every `checkpoint_seconds`.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_SECONDS))


def _start(resources: Resources) -> None:
    # Tells at every start that a token was written; how to use one is in the docs.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    address = resources.address or os.environ.get("RAY_ADDRESS")
    if address and address.startswith("ray://"):
        what, fix = "Ray Client is not enough, for results come as streams", "give its HOST:6379, or use ray job submit"
        raise ClusterError(what, f"Ray at {address}", fix)
    try:
        if address:
            _probe(address)
            ray.init(address=address, **_QUIET)
        else:
            memory = resources.object_store_mb
            start_private(object_store_memory=memory * _MEGABYTE if memory else None)
    except Exception as error:  # Ray raises a bare Exception when a machine is too busy to start it in time
        reason = " ".join(str(error).split())[:200]
        if address:
            what = f"cannot be reached ({reason})"
            raise ClusterError(what, f"Ray at {address}", "check resources.address and RAY_ADDRESS") from error
        raise ClusterError(
            f"did not start ({reason})", "a private Ray", "see that the machine is idle, try again"
        ) from error
    raise_on_sigterm()
    total = ray.cluster_resources()
    log.info("Ray: %g CPUs, %g GPUs", total.get("CPU", 0), total.get("GPU", 0))
    if total.get("GPU", 0) and not (resources.gpus or resources.distill_gpus):
        log.warning("Ray: its GPUs are left alone; resources.gpus=0.25 resources.distill_gpus=1 would use them")


def start_private(**options: Any) -> None:
    """A Ray for this process alone. It gives its own processes 30 s to start, which a busy machine may need more than once."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for attempt in range(1, STARTS + 1):
        try:
            ray.init(address="local", include_dashboard=False, **_QUIET, **options)
            return
        except Exception as error:
            if attempt == STARTS or type(error) is not Exception:  # as Ray raises for want of time alone
                raise
            ray.shutdown()
            log.info("Ray: did not start (%s), once more", one_line(error))


def _probe(address: str) -> None:
    """OSError when nobody listens: Ray itself would try for minutes before it says so."""
    host, _, port = address.rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def choose_num_workers(resources: Resources, pieces: int, distilling_on: float | None = None) -> int:
    """How many workers to ask for: never more than there are pieces of work, and by default as many as the cluster carries.

    distilling_on: CPUs of each, where they are distilling processes."""
    cpus, gpus, prefix = resources.cpus, resources.gpus, ""
    if distilling_on is not None:
        cpus, gpus, prefix = distilling_on, resources.distill_gpus, "distill_"
    ensure_schedulable(resources, cpus, gpus, prefix)
    carries = sum(_capacity(machine, cpus, gpus) for machine in _alive_nodes())
    return max(1, min(pieces, resources.workers or carries))


def check_memory(resources: Resources, workers: int, held: int, stage: str) -> None:
    """Warn where the workers that a machine carries hold more than its memory; held: bytes of each, at least."""
    for machine in _alive_nodes():
        count, memory = min(workers, _capacity(machine, resources.cpus, resources.gpus)), machine.get("memory", 0)
        if count * held > memory > 0:
            log.warning(
                "%s: each of the %d workers of a machine will hold the training images, %.1f GB in all, and it has %.1f GB; "
                "give fewer resources.workers, or a lower curate.per_class or image_size",
                stage, count, count * held / 1e9, memory / 1e9,
            )  # fmt: skip
            return


def ensure_schedulable(resources: Resources, cpus: float, gpus: float, prefix: str) -> None:
    """ClusterError unless some machine of the cluster carries one such worker; Ray itself would wait for ever.

    A cluster that `resources.workers` may make grow is asked for such a machine, and given `resources.growth_seconds`.
    """
    if any(_capacity(machine, cpus, gpus) for machine in _alive_nodes()):
        return
    patience = resources.growth_seconds
    may_grow = resources.workers is not None and bool(resources.address or os.environ.get("RAY_ADDRESS"))
    if may_grow:
        log.info("Ray: waiting for a machine with %g CPUs and %g GPUs, %g s at most", cpus, gpus, patience)
        # In vain it ends with this driver; to cancel it while it runs has ended the driver in Ray's own code.
        demand = ray.remote(num_cpus=cpus, num_gpus=gpus)(_hold_resources).remote()
        came = bool(ray.wait([demand], timeout=patience)[0])
        if came or any(_capacity(machine, cpus, gpus) for machine in _alive_nodes()):  # just now, perhaps
            return
    most = [max((machine.get(name, 0) for machine in _alive_nodes()), default=0) for name in ("CPU", "GPU")]
    raise ClusterError(
        f"one worker wants {cpus:g} CPUs and {gpus:g} GPUs, no machine of the cluster has more than {most[0]:g} and {most[1]:g}"
        + (f" (after {patience:g} s)" if may_grow else ""),
        "resources",
        f"lower resources.{prefix}cpus or resources.{prefix}gpus, use a larger cluster, or set resources.workers on one that can grow",
    )


def _alive_nodes() -> list[dict[str, float]]:
    """What each machine of the cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _capacity(machine: dict[str, float], cpus: float, gpus: float) -> int:
    """How many such workers fit on a machine; a worker does not spread over two, nor a fraction over two GPUs."""
    on_cpus = int(machine.get("CPU", 0) / cpus + 1e-9)
    if not gpus:
        return on_cpus
    on_gpus = int(machine.get("GPU", 0)) * int(1 / gpus + 1e-9) if gpus < 1 else int(machine.get("GPU", 0) / gpus)
    return min(on_cpus, on_gpus)


def on_driver_node() -> NodeAffinitySchedulingStrategy:
    """For an actor without which the stage cannot go on: on the driver's machine, so that it is lost with the driver or not at all."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _hold_resources() -> None:
    """A task that only asks for its resources."""


def distill_cpus(resources: Resources, pieces: int, useful: int) -> int:
    """CPUs of a distilling process: as asked, or as many as are useful of the largest machine that has the GPUs for it, shared among
    the pieces of an iteration."""
    if resources.distill_cpus:
        return resources.distill_cpus
    # A cluster may have to grow before its machines can be counted.
    ensure_schedulable(resources, 1, resources.distill_gpus, "distill_")
    fitting = [machine for machine in _alive_nodes() if machine.get("GPU", 0) >= resources.distill_gpus]
    return max(1, min(useful, max((int(machine.get("CPU", 0)) for machine in fitting), default=1) // pieces))


def device_of(gpus: float) -> str:
    """The torch device of a worker that was given this share of GPUs. ClusterError if torch cannot use them."""
    import torch

    if gpus and not torch.cuda.is_available():
        what = f"Ray gave a worker a GPU that torch {torch.__version__} cannot use"
        raise ClusterError(
            what, socket.gethostname(), "install a torch for its driver there, or set the gpus of resources to 0"
        )
    if not gpus:
        return "cpu"
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32; who wants less says bfloat16
    return "cuda"


def one_line(error: BaseException) -> str:
    """The last line of an error's message: Ray puts whole tracebacks in front of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _out_of_memory(error: BaseException) -> bool:
    """What torch raises of a GPU, of main memory, and Python itself."""
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "can't allocate memory" in str(error)


WORKER_FAILURES = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.RayActorError,
)


@contextmanager
def translate_errors(stage: str) -> Iterator[None]:
    """Our own errors come out of Ray's tasks as themselves, without the worker's traceback; a worker lost for good is a ClusterError."""
    try:
        yield
    except WORKER_FAILURES as error:
        fix = "run the same command again; what is finished is kept"
        raise ClusterError(f"a worker was lost too often ({one_line(error)})", stage, fix) from error
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RaydistillError):
            raise error.cause from None
        if _out_of_memory(error.cause):
            fix = "give it a larger machine or share (resources.gpus, distill_gpus), or distil in less (resources.distill_memory_mb)"
            raise ClusterError(f"a worker's memory was not enough ({one_line(error.cause)})", stage, fix) from error
        raise
