"""Open the survey to predict: a config, an artifact, or a folder of pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raydistill import config as configs
from raydistill import shipped
from raydistill.artifacts.manifest import NAME, Manifest, describe_kind, kind_of, open_manifest
from raydistill.artifacts.tables import read_table
from raydistill.config import CatalogSurvey, Config, Curate, Images, plain
from raydistill.datasets.base import DataSet, PackedDataSet
from raydistill.errors import ArtifactIncompatible, CatalogError
from raydistill.galaxies.folders import is_hidden
from raydistill.galaxies.pictures.cells import OBJECTS, parquet_rows
from raydistill.galaxies.pictures.files import (
    FITS_SUFFIXES,
    PICTURE_SUFFIXES,
    check_links,
    digest_files,
    list_files,
    suffix_of,
)
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.galaxies.tables.ids import first_of_each
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, survey_parts
from raydistill.stages.simulate import artifact as survey
from raydistill.storage import Folder, arrow_filesystem, check_path
from raydistill.surveys.finding import absolute, find_pictures, read_survey
from raydistill.surveys.survey import (
    FileReader,
    PackedReader,
    ParquetReader,
    Preparation,
    Reader,
    SurveyPictures,
    last_part,
)

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
        return pictures_of_artifact(plan, folder)
    if folder.exists() or ".zip" in survey.lower():
        return pictures_of_folder(plan, survey)
    if shipped.find(survey):
        return pictures_of_config(plan, configs.load(survey))
    fix = "give a config, a curated set or a folder of pictures"
    raise CatalogError("there is no such survey", survey, fix)


# The pictures of a config's survey: all rows of its table, or a whole data set.

log = get_logger(__name__)


def pictures_of_config(plan: Plan, config: Config) -> SurveyPictures:
    """Return the pictures of a config's survey; `plan` says how they are prepared.

    Where the galaxies are in a picture, `curate.centre`, is said by the survey's own config.

    Raises
    ------
    ArtifactMissing
        The survey is to be simulated and does not exist yet.
    CatalogError
        The table or the data set cannot be used, or no object has a picture.
    """
    other = Plan(config)
    theirs, ours = plan.config.curate.crop_fraction, config.curate.crop_fraction
    if ours != theirs:
        what = "predict: the config of the survey has curate.crop_fraction=%g; %g of the experts' config is used"
        log.warning(what, ours, theirs)
    parents = {"survey": other.survey} if other.survey is not None else {}
    identity, centre = survey_parts(config.survey)[0], config.curate.centre
    if centre != plan.config.curate.centre:
        identity["centre"] = list(centre)
    found = pictures_of_survey(plan, other.user_survey(), config.name, identity, parents)
    return replace(found, preparation=replace(found.preparation, centre=centre))


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
    matches = find_pictures(survey, catalog)
    if isinstance(survey.images, ParquetImages):
        return _of_parquet(survey.images, catalog["object_id"])
    objects = pa.table({"object_id": catalog["object_id"], "path": pa.array(matches.files, pa.string())})
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


# The pictures of an artifact, such as a curated set, already cropped and checked.


def pictures_of_artifact(plan: Plan, folder: Folder) -> SurveyPictures:
    """Return the pictures of a curated set, a synthetic set or a simulated survey.

    Raises
    ------
    ArtifactIncompatible
        The artifact has no pictures.
    ArtifactCorrupt
        A file is gone or damaged.
    """
    kind = kind_of(folder)
    manifest = open_manifest(folder, kind)
    spec = ArtifactSpec(kind, manifest.identity, folder, manifest.seed, manifest.config, {})
    if kind == survey.KIND:
        simulated = plan.simulated_survey(folder)
        return pictures_of_survey(
            plan, simulated, last_part(folder.uri), {"content": manifest.content}, {"survey": spec}
        )
    objects = _objects(folder, manifest)
    if not len(objects):
        what = f"this is a {describe_kind(kind)[0]}, which has no pictures to predict"
        raise ArtifactIncompatible(what, folder.uri, "give a config, a curated set or a folder of pictures")
    curate = plan.config.curate
    _warn_of_other_crop(manifest, curate, folder)
    return SurveyPictures(
        name=last_part(folder.uri), uri=folder.uri, objects=objects,
        reader=ParquetReader(folder.uri, "image", folder.uri),
        images=FolderImages(root=folder.uri, value_range="full", fit="crop"),  # decodes PNG
        preparation=Preparation.of_prepared(curate),
        identity={"content": manifest.content}, parents={"survey": spec},
    )  # fmt: skip


def _objects(folder: Folder, manifest: Manifest) -> pa.Table:
    """Return the objects of all Parquet files with the columns object_id and image."""
    _, root = arrow_filesystem(folder.uri)
    parts = [OBJECTS.empty_table()]
    for name in sorted(manifest.files):
        if not (name.startswith("data/") and name.endswith(".parquet")):
            continue
        with folder.open(name) as stream:
            file = pq.ParquetFile(stream, pre_buffer=False)
            if {"object_id", "image"} <= set(file.schema_arrow.names):
                ids = read_table(folder, name, ["object_id"])["object_id"]
                parts.append(parquet_rows(ids, f"{root}/{name}", file.metadata))
    return pa.concat_tables(parts)


def _warn_of_other_crop(manifest: Manifest, curate: Curate, folder: Folder) -> None:
    """Warn of pictures whose crop or alignment differs from that of the experts."""
    stored = manifest.config.get("curate", {})
    for key in ("crop_fraction", "align"):
        theirs = getattr(curate, key)
        if stored.get(key, theirs) != theirs:
            what = "predict: %s has curate.%s=%s, the experts have %s; its pictures are only resized"
            log.warning(what, folder, key, stored[key], theirs)


# The pictures of a folder or a zip, whose files name the objects.


def pictures_of_folder(plan: Plan, root: str) -> SurveyPictures:
    """Return the pictures of a folder and of all folders in it, sorted by name.

    The object id is the path below the folder without its suffix, or with it where two files differ
    in their suffix alone. Files are decoded as those of the experts' survey.

    Raises
    ------
    CatalogError
        The folder has no pictures, or FITS files that the experts' config does not explain.
    """
    root = absolute(root)
    present = sorted(name for name in list_files(root, recursive=True, once=True) if not is_hidden(name))
    survey = plan.config.survey
    images, suffixes = _decoder(plan, root, present)
    names = [name for name in present if suffix_of(name, suffixes)]
    if not names:
        what = f"none of its {len(present)} files is a picture"
        raise CatalogError(what, root, f"give a folder of files such as {', '.join(suffixes[:3])}")
    check_links(root, names, "copy them into it, or give a config whose survey has allow_outside: true")
    if ignored := len(present) - len(names):
        log.info("predict: %d files in %s are not pictures", ignored, root)
    preparation = Preparation.of(plan.config.curate, images)
    if isinstance(survey, DataSet):
        preparation = replace(preparation, min_contrast=0)
    objects = pa.table({"object_id": _object_ids(names, suffixes), "path": pa.array(names, pa.string())})
    return SurveyPictures(
        last_part(root), root, _complete(objects), FileReader(root), images, preparation,
        {"files_sha256": digest_files(root, names), "images": _plain_images(images)},
    )  # fmt: skip


def _decoder(plan: Plan, root: str, present: Collection[str]) -> tuple[Images, tuple[str, ...]]:
    """Return how to decode the files, and their suffixes."""
    survey = plan.config.survey
    images = survey.images if isinstance(survey, CatalogSurvey) else None
    has_fits = any(suffix_of(name, FITS_SUFFIXES) for name in present)
    has_pictures = any(suffix_of(name, PICTURE_SUFFIXES) for name in present)
    if isinstance(images, FitsImages) and has_fits:
        if "{band}" in images.pattern:
            what = "the experts' pictures have one FITS file per band, which a folder alone does not pair"
            raise CatalogError(what, root, "give a config with a table of ids and this folder as survey.images.root")
        return replace(images, root=root, pattern="{id}.fits", mapping=None, path_column=None), FITS_SUFFIXES
    if has_fits and not has_pictures:
        what = "it holds FITS files, and the experts' survey says neither their bands nor their stretch"
        raise CatalogError(what, root, "give a config whose survey.images has kind: fits")
    options: dict[str, Any] = {}
    for name in ("value_range", "fit"):
        source: Any = survey if images is None else images
        if hasattr(source, name):
            options[name] = getattr(source, name)
    return FolderImages(root=root, pattern="{id}.*", **options), PICTURE_SUFFIXES


def _object_ids(names: list[str], suffixes: tuple[str, ...]) -> pa.Array:
    """Return each name without its suffix, or with it where that is not unique."""
    stems = [name[: -len(suffix_of(name, suffixes))] for name in names]
    counts = Counter(stems)
    ids = [stem if counts[stem] == 1 else name for stem, name in zip(stems, names, strict=True)]
    return pa.array(ids if len(set(ids)) == len(ids) else names, pa.string())  # a.png.png beside a.png and a.jpg


def _plain_images(images: Images) -> dict[str, Any]:
    """Return the options of the decoder without its folder."""
    return {key: value for key, value in plain(images).items() if key != "root"}
