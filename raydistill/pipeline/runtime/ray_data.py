"""Settings of Ray Data that all its users share: retries, logging, and accepted warnings."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.util.annotations import RayDeprecationWarning

MAX_RETRIES = 3  # of a block whose worker died, as for Ray's own tasks; Ray Data would retry without limit
# Warnings of Ray that the stages accept: start of the message -> reason.
ACCEPTED_DEPRECATIONS = {
    "`ray_remote_args` is deprecated": "max_retries, max_restarts and max_task_retries have no named replacement in Ray "
    "2.60 to 2.63, and nothing else limits how often the task of a dead worker starts again"
}


def quiet_context(*, preserve_order: bool) -> ray.data.DataContext:
    """Return the driver's context without Ray Data's own progress bars and log lines."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it logs every execution, and the missing progress bars
    context.execution_options.preserve_order = preserve_order
    return context


@contextmanager
def accepted_deprecations() -> Iterator[None]:
    """Silence the warnings of `ACCEPTED_DEPRECATIONS` alone."""
    with warnings.catch_warnings():
        for message in ACCEPTED_DEPRECATIONS:
            warnings.filterwarnings("ignore", re.escape(message), RayDeprecationWarning)
        yield
