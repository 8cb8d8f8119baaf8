"""The artifact of the predictions for a survey."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raydistill.artifacts import kinds
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, survey_parts
from raydistill.surveys.opening import open_survey
from raydistill.surveys.survey import SurveyPictures


def predictions_spec(plan: Plan, pictures: SurveyPictures) -> ArtifactSpec:
    """Return the artifact of the experts' predictions for these pictures."""
    return _spec(plan, pictures.identity, pictures.parents)


def spec_of_survey(plan: Plan, survey: str | None) -> ArtifactSpec:
    """Return the artifact of the experts' predictions for a survey.

    `survey` is named as SURVEY of `predict`. The survey of the config itself need not exist yet.
    """
    if survey is not None:
        return predictions_spec(plan, open_survey(plan, survey))
    parents = {} if plan.survey is None else {"survey": plan.survey}
    return _spec(plan, survey_parts(plan.config.survey)[0], parents)


def predict_specs(plan: Plan, survey: str | None) -> list[ArtifactSpec]:
    """Return the artifacts that `predict` reads, and the predictions that it writes."""
    specs = [plan.survey, plan.curated, plan.trajectories, spec_of_survey(plan, survey)]
    return [spec for spec in specs if spec is not None]


def _spec(plan: Plan, identity: Mapping[str, Any], parents: Mapping[str, ArtifactSpec]) -> ArtifactSpec:
    own = {kinds.CURATED: plan.curated, kinds.TRAJECTORIES: plan.trajectories}
    parts = {"predict": plan.config.predict, "pictures": dict(identity)}
    return plan.spec(kinds.PREDICTIONS, parts, {**own, **parents}, 0)
