"""The artifact of the predictions for a survey."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from raydistill.artifacts import kinds
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, survey_parts
from raydistill.surveys.opening import open_survey
from raydistill.surveys.survey import SurveyPictures


def predictions_spec(plan: Plan) -> ArtifactSpec:
    """Return the experts' predictions for `predict.survey`.

    The survey of the config itself need not exist yet.
    """
    if plan.config.predict.survey is not None:
        return spec_of_pictures(plan, open_survey(plan, plan.config.predict.survey))
    parents = {} if plan.survey is None else {kinds.SURVEY: plan.survey}
    return _spec(plan, survey_parts(plan.config.survey)[0], parents)


def predictions_of(plan: Plan, survey: str | None) -> ArtifactSpec:
    """Return the experts' predictions for another survey than `predict.survey`."""
    predict = replace(plan.config.predict, survey=survey)
    return predictions_spec(Plan(replace(plan.config, predict=predict)))


def spec_of_pictures(plan: Plan, pictures: SurveyPictures) -> ArtifactSpec:
    """Return the experts' predictions for these pictures."""
    return _spec(plan, pictures.identity, pictures.parents)


def _spec(plan: Plan, identity: Mapping[str, Any], parents: Mapping[str, ArtifactSpec]) -> ArtifactSpec:
    own_parents = {kinds.CURATED: plan.curated, kinds.TRAJECTORIES: plan.trajectories}
    # The path of the survey does not matter, but its identity does.
    parts = {"predict": replace(plan.config.predict, survey=None), "pictures": dict(identity)}
    return plan.spec(kinds.PREDICTIONS, parts, {**own_parents, **parents}, 0)
