"""Choose a survey's black and white for "auto": the experts', if they have any."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow.compute as pc

from raydistill.datasets.base import DataSet
from raydistill.errors import CatalogError
from raydistill.log import get_logger
from raydistill.stages.curate.summary import Levels
from raydistill.surveys.levels import chosen_levels, format_levels, resolve_levels
from raydistill.surveys.survey import SurveyPictures

log = get_logger(__name__)


def assume_levels(pictures: SurveyPictures, levels: Levels) -> tuple[SurveyPictures, Levels]:
    """Return the pictures with numbers in place of `auto`, and these numbers.

    Numbers in the survey's own config stay. The numbers that were chosen for the experts replace
    "auto", so that equal pixels give equal predictions. If the experts have none, as with 8 bits,
    the range is chosen from a sample.

    Parameters
    ----------
    pictures
        The survey.
    levels
        `Summary.levels` of the experts' curated set.

    Raises
    ------
    CatalogError
        No usual range fits the pictures of the sample.
    """
    images: Any = pictures.images
    assumed = {key: _value(value) for key, value in levels.items() if hasattr(images, key)}
    if "auto" not in (getattr(images, "value_range", None), getattr(images, "stretch", None)):
        return pictures, {}
    if assumed:
        shown = format_levels({key: levels[key] for key in assumed})
        log.info(
            "predict: black and white of %s are assumed to be those of the experts' survey: %s", pictures.name, shown
        )
        return replace(pictures, images=replace(images, **assumed)), {key: levels[key] for key in assumed}
    resolved = _resolve(images, pictures)
    chosen = chosen_levels(images, resolved)
    if chosen and not isinstance(images, DataSet):
        what = "predict: the experts' survey needed no choice of black and white; %s is assumed from a sample: %s"
        log.warning(what, pictures.name, format_levels(chosen))
    return replace(pictures, images=resolved), chosen


def _resolve(images: Any, pictures: SurveyPictures) -> Any:
    try:
        return resolve_levels(images, pictures.objects.filter(pc.is_valid(pictures.objects["path"])))
    except CatalogError as error:
        fix = f"{error.fix}, in a config of this survey"
        raise CatalogError(error.what, error.where, fix) from error


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
