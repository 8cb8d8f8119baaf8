"""Return the tracker of a plan."""

from __future__ import annotations

from pathlib import Path

from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.tracking.tracker import Tracker
from raydistill.tracking.uris import default_uri

log = get_logger(__name__)


def tracking_uri(plan: Plan) -> str | None:
    """Return the tracking URI of a plan's runs, by default SQLite in the run folder.

    None if no URI is set and the run folder is in object storage: SQLite needs a disk.
    """
    if plan.config.tracking.uri or not plan.root.is_local:
        return plan.config.tracking.uri
    return default_uri(Path(plan.root.uri).absolute())


def tracker_of(plan: Plan) -> Tracker:
    """Return the tracker of a plan; it has opened nothing."""
    config, uri = plan.config.tracking, tracking_uri(plan)
    return Tracker(
        uri or "", config.experiment or plan.config.name, config.enabled and uri is not None, config.system_metrics
    )


def make_tracker(plan: Plan) -> Tracker:
    """Return the tracker of a plan, whose database exists before any worker opens it."""
    if tracking_uri(plan) is None and plan.config.tracking.enabled:
        log.warning(
            "tracking is off: SQLite needs a disk, and %s is in object storage; set tracking.uri=http://… of an MLflow server",
            plan.root,
        )
    tracker = tracker_of(plan)
    tracker.initialise()
    return tracker
