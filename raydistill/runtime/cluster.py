"""Attach to a Ray cluster, or start a private Ray.

A job submitted with `ray job submit` finds its cluster by itself. On a laptop a command starts a
private Ray, which listens on 127.0.0.1 alone and ends with the command.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
from ray._private import ray_constants

from raydistill.config import Resources
from raydistill.errors import ClusterError
from raydistill.log import get_logger
from raydistill.runtime.failures import one_line, stop_if_ray_dies
from raydistill.runtime.private_ray import check_limits, choose_temp_dir, find_cause, private_token
from raydistill.runtime.signals import raise_on_sigterm
from raydistill.storage import Folder
from raydistill.storage.patience import say_waiting

log = get_logger(__name__)

_MEGABYTE = 2**20
START_ATTEMPTS = 3  # of a private Ray
GROUP_START_SECONDS = 60.0  # limit for the start of a group of workers whose machines are up
PROGRESS_INTERVAL = 1.0  # seconds between two progress updates of a worker
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
# A private Ray has no dashboard (1 GB), so these metrics, traces and logs stay unread.
# They cost 4 % of one core where two workers keep two cores busy (dev/log.md).
QUIET_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "RAY_task_events_report_interval_ms": "0",
    "REPORTER_UPDATE_INTERVAL_MS": "60000",  # CPU and memory of each process
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",  # look for new log files at LOG_NAME_UPDATE_INTERVAL_S, not at 0.1 s
    "LOG_NAME_UPDATE_INTERVAL_S": "60",
}
LOOPBACK_ENVIRONMENT = {
    "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",  # a process group inside a worker
}


@contextmanager
def ray_cluster(resources: Resources, output: Folder) -> Iterator[None]:
    """Hold a Ray cluster for the body: a running, an external or a private one.

    Raises
    ------
    ArtifactError
        `output` is not writable. This is checked first: a cluster may take minutes to start.
    ClusterError
        No Ray answers at `address`, or a private Ray does not start, or it dies during the body.
    """
    if ray.is_initialized():
        yield
        return
    output.check_writable()
    set_environment()
    address = resources.address or os.environ.get("RAY_ADDRESS")
    with nullcontext() if address else private_token():
        _start(address, resources)
        try:
            with stop_if_ray_dies(private=not address):
                yield
        finally:
            ray.shutdown()


def set_environment() -> None:
    """Set the environment of Ray and its workers, and keep a user's own values."""
    defaults = {
        "RAY_USAGE_STATS_ENABLED": "0",
        # Threads that spin at a barrier, and workers of low priority, crawl when one core is busy:
        # 1.5 s an iteration of the demo against 0.7 s with these two (dev/log.md).
        "OMP_WAIT_POLICY": "PASSIVE",
        "RAY_worker_niceness": "0",
        # By default glibc returns freed activations to the kernel, which clears their pages again
        # at the next step: 0.76 s an expert's step against 0.45 s (dev/log.md). One arena, because
        # Ray Train runs its loop in a thread, whose own arena would ignore the thresholds.
        "MALLOC_MMAP_THRESHOLD_": str(10**9),
        "MALLOC_TRIM_THRESHOLD_": str(10**9),
        "MALLOC_ARENA_MAX": "1",
        # By default Ray restarts a task that ran out of memory without limit.
        "RAY_task_oom_retries": "3",
        # The default poll of 2 s would delay the end of a group, and the notice of a dead worker,
        # by 1 s.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
        # Its actor needs seconds of imports. Workers need no notice of a preemption: an expert is
        # saved after every epoch, distilling every `checkpoint_seconds`.
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(GROUP_START_SECONDS),
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def start_private(**options: Any) -> None:
    """Start a Ray for this process alone, on 127.0.0.1.

    Ray gives its processes 30 s to start. A busy machine may need several attempts.

    Raises
    ------
    ClusterError
        This machine lacks what Ray needs, or its processes did not start.
    """
    for name, value in (QUIET_ENVIRONMENT | LOOPBACK_ENVIRONMENT).items():
        os.environ.setdefault(name, value)
    if "_temp_dir" not in options:
        options["_temp_dir"] = choose_temp_dir()
    check_limits(options.get("object_store_memory"), options["_temp_dir"])
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            with _loopback_only():
                ray.init(address="local", include_dashboard=False, **_QUIET, **options)
            return
        except Exception as error:
            is_timeout = type(error) is Exception  # Ray raises it for a timeout alone
            if attempt == START_ATTEMPTS or not is_timeout:
                cause = find_cause(options["_temp_dir"])
                fix = "see that the machine is idle, try again" if is_timeout and not cause else "correct it, try again"
                raise ClusterError(f"did not start ({cause or _reason(error)})", "a private Ray", fix) from error
            ray.shutdown()
            log.info("Ray: did not start (%s), trying again", one_line(error))


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Let Ray choose 127.0.0.1 as the node's address, as it does on macOS and Windows.

    Its servers listen on the loopback interface alone if that is their node's address.
    `ray.init(_node_ip_address="127.0.0.1")` does not do it: Ray replaces that by a public address.
    """
    constants: Any = ray_constants
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _start(address: str | None, resources: Resources) -> None:
    # Ray warns at every start that it uses a token; docs/how-to/cluster.md explains tokens.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    if address:
        _attach(address)
    else:
        memory = resources.object_store_mb
        start_private(object_store_memory=memory * _MEGABYTE if memory else None)
    raise_on_sigterm()
    total = ray.cluster_resources()
    log.info("Ray: %g CPUs, %g GPUs", total.get("CPU", 0), total.get("GPU", 0))
    if total.get("GPU", 0) and not resources.use_gpus:
        log.warning("Ray: its GPUs are not used; resources.gpus=0.25 resources.distill_gpus=1 would use them")


def _attach(address: str) -> None:
    if address.startswith("ray://"):
        what, fix = "Ray Client cannot stream results", "give its HOST:6379, or use ray job submit"
        raise ClusterError(what, f"Ray at {address}", fix)
    try:
        _probe(address)
        with say_waiting(f"Ray at {address}"):
            ray.init(address=address, **_QUIET)
    except Exception as error:
        fix = "check resources.address and RAY_ADDRESS"
        raise ClusterError(f"cannot be reached ({_reason(error)})", f"Ray at {address}", fix) from error


def _probe(address: str) -> None:
    """Raise OSError if nothing listens at the address: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
