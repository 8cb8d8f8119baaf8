"""The pictures to predict: a list of objects, and how to read and prepare them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raydistill.config import Images
from raydistill.datasets.base import DataSet
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.surveys.preparing import Preparation
from raydistill.surveys.readers import Reader


@dataclass(frozen=True)
class SurveyPictures:
    """The pictures of a survey.

    Parameters
    ----------
    name
        Its name: that of the config, or the last part of its path.
    uri
        Its path or URI.
    objects
        One row per object with the columns of `OBJECTS`, in the order of the survey.
    reader
        Reads the pictures of a block of objects.
    images
        Decodes them.
    preparation
        Crop, size, alignment and checks.
    identity
        The values that identify the pictures.
    parents
        The artifact that the survey is, by its role "survey"; empty for other surveys.
    """

    name: str
    uri: str
    objects: pa.Table
    reader: Reader
    images: Images | DataSet
    preparation: Preparation
    identity: dict[str, Any]
    parents: dict[str, ArtifactSpec] = field(default_factory=dict)


def last_part(uri: str) -> str:
    """Return the last part of a path or URI."""
    return uri.rstrip("/").rpartition("/")[2]
