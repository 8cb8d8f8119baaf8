"""Record the load of the driver's machine while a run lasts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from raydistill.log import get_logger
from raydistill.tracking import mlflow_client

log = get_logger(__name__)

SECONDS = 10.0
VARIABLE = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"  # MLflow's own, in seconds


def record_system(record: Callable[[Mapping[str, float], int], None], done: threading.Event) -> None:
    """Measure at an interval, and once more when `done` is set; warn once on failure.

    A failure ends the measurement.

    Parameters
    ----------
    record
        Called with the values and the number of the measurement.
    done
        Set at the end of the run.
    """
    try:
        monitor, interval, step = mlflow_client.SystemMonitor(), float(os.environ.get(VARIABLE) or SECONDS), 0
        while True:
            is_last = done.wait(interval)
            record(monitor.measure(), step)
            step += 1
            if is_last:
                return
    except Exception as error:  # no failure of tracking may stop the computation
        log.warning("tracking: system metrics cannot be measured (%s); the run continues without them", error)
