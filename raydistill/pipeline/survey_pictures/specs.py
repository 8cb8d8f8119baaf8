"""The artifact of the predictions for a survey."""

from __future__ import annotations

from raydistill.artifacts import curated, predictions, trajectories
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.pipeline.survey_pictures.survey import SurveyPictures


def predictions_spec(plan: Plan, pictures: SurveyPictures) -> ArtifactSpec:
    """Return the artifact of the experts' predictions for these pictures."""
    own = {curated.KIND: plan.curated, trajectories.KIND: plan.trajectories}
    parts = {"predict": plan.config.predict, "pictures": dict(pictures.identity)}
    return plan.spec(predictions.KIND, parts, {**own, **pictures.parents}, 0)
