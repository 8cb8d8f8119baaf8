"""Open the survey to predict: a config, an artifact, or a folder of pictures."""

from __future__ import annotations

from raydistill import config as configs
from raydistill import shipped
from raydistill.artifacts.manifest import NAME
from raydistill.errors import CatalogError
from raydistill.pipeline.plan import Plan
from raydistill.storage import Folder, check_path
from raydistill.surveys.of_config import pictures_of_config
from raydistill.surveys.of_folder import pictures_of_folder
from raydistill.surveys.survey import SurveyPictures

CONFIG_SUFFIXES = (".yaml", ".yml")


def open_survey(plan: Plan, survey: str | None) -> SurveyPictures:
    """Return the pictures of a survey.

    Parameters
    ----------
    plan
        The plan of the experts, whose config says how pictures are prepared.
    survey
        A config or the name of a shipped one, the folder of an artifact with pictures, or a folder
        or zip of pictures. None: the survey of `plan`.

    Raises
    ------
    CatalogError
        There is no such survey, or it has no pictures.
    ArtifactMissing, ArtifactIncompatible
        The survey is to be simulated and does not exist; an artifact has no pictures.
    """
    if survey is None:
        return pictures_of_config(plan, plan.config)
    if survey.endswith(CONFIG_SUFFIXES):
        return pictures_of_config(plan, configs.load(survey))
    check_path(survey)
    folder = Folder(survey)
    if folder.exists(NAME):
        from raydistill.surveys.of_artifact import pictures_of_artifact  # imports torch

        return pictures_of_artifact(plan, folder)
    if folder.exists() or ".zip" in survey.lower():
        return pictures_of_folder(plan, survey)
    if shipped.find(survey):
        return pictures_of_config(plan, configs.load(survey))
    fix = "give a config, a curated set or a folder of pictures"
    raise CatalogError("there is no such survey", survey, fix)
