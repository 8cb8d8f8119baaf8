"""hunt: find rare objects in a survey by the features of `predict`.

Without `hunt.oracle` a round ranks the survey for a person: a contact sheet, whose labels the next
round reads. With it a table of the truth answers, and strategies are compared.
"""

from __future__ import annotations

from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.ensemble import check_experts
from raydistill.stages.hunt.artifact import HuntReport, HuntRound
from raydistill.stages.hunt.labels import read_label_file
from raydistill.stages.hunt.round import write_round
from raydistill.stages.hunt.scripted import write_report
from raydistill.stages.hunt.specs import hunt_spec
from raydistill.stages.hunt.survey import open_hunted
from raydistill.storage import disk_errors
from raydistill.tracking.tracker import Tracker

log = get_logger(__name__)


def hunt(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> HuntRound | HuntReport:
    """Write a round or a report of a hunt, or open the existing one.

    Parameters
    ----------
    plan
        Where the experts are.
    tracker
        Where the run is recorded.
    parent_run
        MLflow id of the enclosing run, if any.

    Returns
    -------
    HuntRound or HuntReport
        The report if the config has an oracle.

    Raises
    ------
    ArtifactMissing
        The curated set, the experts, the predictions or a synthetic set do not exist.
    ArtifactIncompatible
        The predictions have no features, or a synthetic set does not fit.
    CatalogError
        The labels or the table of the truth cannot be used.
    ConfigError
        The condition of the oracle is wrong.
    """
    spec, scripted = hunt_spec(plan), plan.config.hunt.oracle is not None
    if not is_complete(spec):
        if plan.config.hunt.labels is not None:  # a wrong file is reported before anything is opened
            read_label_file(plan.config.hunt.labels).decisions(plan.config.hunt.threshold)
        curated = CuratedSet.open(plan.curated.folder)
        check_experts(TrajectoryStore.open(plan.trajectories.folder), curated)
        survey = open_hunted(plan, curated)
        with (
            stage_context(plan),
            tracked_run(plan, spec, tracker, parent_run, curated) as run,
            disk_errors(spec.folder.uri),
        ):
            if scripted:
                write_report(plan, spec, curated, survey, run)
            else:
                write_round(plan, spec, curated, survey, run)
    return HuntReport.open(spec.folder) if scripted else HuntRound.open(spec.folder)
