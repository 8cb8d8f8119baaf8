"""Define the parts of a config about resources and tracking."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class Resources:
    """Limit the resources of a run.

    Only threads (`worker_threads`, `distill_cpus`) and GPUs change a result: they decide the order
    of sums and the values of `auto`.

    Parameters
    ----------
    address
        Address of a running Ray cluster; "auto" finds a local one. None: RAY_ADDRESS, or else a
        private Ray.
    workers
        Parallel workers; an autoscaling cluster may grow for them. None: the current capacity.
    growth_seconds
        Timeout for a new node if no node fits. Cloud providers take one to four minutes.
    cpus
        CPUs of one worker; fractions are allowed.
    gpus
        GPUs of one worker; fractions are allowed.
    worker_threads
        Torch threads of a worker that trains experts or evaluates.
    distill_cpus
        CPUs of a distilling process, which uses one thread per CPU. None: the CPUs of the largest
        node with these GPUs, divided by `distill.trajectories_per_step`, up to the number that one
        step can use; 1 for a trial of `tune`.
    distill_gpus
        GPUs of a distilling process.
    distill_memory_mb
        Memory in which the exact engine keeps parameters and graphs of student steps, beside the
        memory of one step. If the parameters of all steps do not fit, an iteration takes a quarter
        more time. If `distill.compile` is off, the remaining memory keeps graphs, which saves time.
        None: the parameters of all steps.
    max_restarts
        Worker failures in a row, without progress in between, that a stage restarts from. It fails
        at the next one.
    object_store_mb
        Memory of the object store of a private Ray, which then spills to disk. None: Ray's default.
    checkpoint_seconds
        Minimum time between two checkpoints of a distilling process, or of a generator.

    Notes
    -----
    A megabyte is 2^20 bytes.
    """

    address: str | None = None
    workers: PositiveInt | None = None
    growth_seconds: NonNegativeFloat = 300.0
    cpus: PositiveFloat = 1
    gpus: NonNegativeFloat = 0
    worker_threads: PositiveInt = 1
    distill_cpus: PositiveInt | None = None
    distill_gpus: NonNegativeFloat = 0
    distill_memory_mb: NonNegativeFloat | None = None
    max_restarts: NonNegativeInt = 3
    object_store_mb: PositiveInt | None = 1024
    checkpoint_seconds: NonNegativeFloat = 20.0

    def __post_init__(self) -> None:
        for name, gpus in (("gpus", self.gpus), ("distill_gpus", self.distill_gpus)):
            if gpus > 1 and gpus != int(gpus):
                raise ValueError(f"{name} must be at most 1, or a whole number, got {gpus:g}")

    @property
    def use_gpus(self) -> bool:
        """Return whether any stage uses GPUs."""
        return bool(self.gpus or self.distill_gpus)


@dataclass(frozen=True)
class Tracking:
    """Configure MLflow.

    Parameters
    ----------
    enabled
        Log runs to MLflow.
    uri
        Tracking server, without a password. None: sqlite:// in the run folder.
    experiment
        Name of the experiment. None: the name of the config.
    models
        Copy the experts, and a network trained on the distilled set, into MLflow as models that
        classify pictures.
    system_metrics
        Record CPU, memory, disk, network and GPU of the driver's machine every 10 seconds.
    """

    enabled: bool = True
    uri: str | None = None
    experiment: str | None = None
    models: bool = False
    system_metrics: bool = False

    def __post_init__(self) -> None:
        if self.uri and re.search(r"//[^/]*:[^/]*@", self.uri):
            # MLflow's parameters, the best config of a search and logs would contain it.
            raise ValueError("uri must hold no password; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")

    @property
    def registers(self) -> bool:
        """Return whether networks are registered as models."""
        return self.enabled and self.models
