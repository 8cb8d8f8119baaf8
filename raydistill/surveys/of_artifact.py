"""The pictures of an artifact, such as a curated set, already cropped and checked."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.artifacts.manifest import Manifest, describe_kind, kind_of, open_manifest
from raydistill.artifacts.tables import read_table
from raydistill.config import Curate
from raydistill.errors import ArtifactIncompatible
from raydistill.galaxies.pictures.cells import OBJECTS, parquet_rows
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.stages.simulate import artifact as survey
from raydistill.storage import Folder, arrow_filesystem
from raydistill.surveys.of_config import pictures_of_survey
from raydistill.surveys.preparing import Preparation
from raydistill.surveys.readers import ParquetReader
from raydistill.surveys.survey import SurveyPictures, last_part

log = get_logger(__name__)


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
        own = plan.simulated_survey(folder)
        return pictures_of_survey(plan, own, last_part(folder.uri), {"content": manifest.content}, {"survey": spec})
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
        preparation=Preparation(curate.image_size, 1.0, align=False, min_size=1, min_contrast=0),
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
    own = manifest.config.get("curate", {})
    for key in ("crop_fraction", "align"):
        theirs = getattr(curate, key)
        if own.get(key, theirs) != theirs:
            what = "predict: %s has curate.%s=%s, the experts have %s; its pictures are only resized"
            log.warning(what, folder, key, own[key], theirs)
