"""The pictures of a config's survey: all rows of its table, or a whole data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.config import CatalogSurvey, Config
from raydistill.datasets.base import DataSet, PackedDataSet
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.cells import OBJECTS
from raydistill.galaxies.pictures.sources import ParquetImages
from raydistill.galaxies.tables.repeated import first_of_each
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, survey_parts
from raydistill.surveys.finding import absolute, find_pictures, read_survey
from raydistill.surveys.preparing import Preparation
from raydistill.surveys.readers import FileReader, PackedReader, ParquetReader, Reader
from raydistill.surveys.survey import SurveyPictures

log = get_logger(__name__)


def pictures_of_config(plan: Plan, config: Config) -> SurveyPictures:
    """Return the pictures of a config's survey; `plan` says how they are prepared.

    Raises
    ------
    ArtifactMissing
        The survey is to be simulated and does not exist yet.
    CatalogError
        The table or the data set cannot be used, or no object has a picture.
    """
    other = Plan(config)
    theirs, own = plan.config.curate.crop_fraction, config.curate.crop_fraction
    if own != theirs:
        what = "predict: the config of the survey has curate.crop_fraction=%g; %g of the experts' config is used"
        log.warning(what, own, theirs)
    parents = {"survey": other.survey} if other.survey is not None else {}
    return pictures_of_survey(plan, other.user_survey(), config.name, survey_parts(config.survey)[0], parents)


def pictures_of_survey(
    plan: Plan,
    survey: CatalogSurvey | DataSet,
    name: str,
    identity: dict[str, Any],
    parents: Mapping[str, ArtifactSpec],
) -> SurveyPictures:
    """Return the pictures of a survey in the form in which users describe it."""
    if isinstance(survey, DataSet):
        images = replace(survey, root=absolute(survey.root))
        objects, reader = _of_data_set(images)
        uri: str = survey.root
        return _pictures(plan, images, name, uri, objects, reader, identity, parents)
    objects, reader = _of_catalog(survey)
    if not pc.any(pc.is_valid(objects["path"])).as_py():
        place = survey.images.uri if isinstance(survey.images, ParquetImages) else survey.images.root
        what = f"none of its {len(objects)} objects has a picture in {place}"
        raise CatalogError(what, survey.catalog, "check survey.images")
    return _pictures(plan, survey.images, name, survey.catalog, objects, reader, identity, parents)


def _pictures(
    plan: Plan, images: Any, name: str, uri: str, objects: pa.Table, reader: Reader, identity: dict[str, Any],
    parents: Mapping[str, ArtifactSpec],
) -> SurveyPictures:  # fmt: skip
    preparation = Preparation.of(plan.config.curate, images)
    return SurveyPictures(name, uri, objects, reader, images, preparation, identity, dict(parents))


def _of_data_set(images: DataSet) -> tuple[pa.Table, Reader]:
    """Return the objects of all splits; those of a packed file keep its order."""
    rows = images.index().rows
    if not isinstance(images, PackedDataSet):
        objects = pa.table({"object_id": rows["object_id"], "path": rows["path"]})
        return _complete(objects), FileReader(images.root)
    rows = rows.sort_by([(name, "ascending") for name in ("path", "row_group", "row")])
    return rows.select(OBJECTS.names).cast(OBJECTS), PackedReader(images)


def _of_catalog(survey: CatalogSurvey) -> tuple[pa.Table, Reader]:
    """Return the objects of the table; null paths for those without a picture."""
    catalog = read_survey(survey, need_labels=False)
    found = find_pictures(survey, catalog)
    if isinstance(survey.images, ParquetImages):
        return _of_parquet(survey.images, catalog["object_id"])
    objects = pa.table({"object_id": catalog["object_id"], "path": pa.array(found.files, pa.string())})
    return _complete(objects), FileReader(absolute(survey.images.root))


def _of_parquet(images: ParquetImages, ids: pa.ChunkedArray) -> tuple[pa.Table, Reader]:
    """Return the table's objects in the order of the Parquet file, missing ones last."""
    uri = absolute(images.uri)
    images = replace(images, uri=uri)
    stored = images.rows()
    stored = first_of_each(stored.filter(pc.is_in(stored["object_id"], ids.combine_chunks())), "object_id")
    missing = ids.filter(pc.invert(pc.is_in(ids, stored["object_id"].combine_chunks())))
    objects = pa.concat_tables([stored, _complete(pa.table({"object_id": missing}))])
    return objects, ParquetReader(uri, images.image_column, images.folder(), images.allow_outside)


def _complete(objects: pa.Table) -> pa.Table:
    """Add the columns of `OBJECTS` that are not there, with nulls."""
    for field in OBJECTS:
        if field.name not in objects.column_names:
            objects = objects.append_column(field.name, pa.nulls(len(objects), field.type))
    return objects.select(OBJECTS.names).cast(OBJECTS)
