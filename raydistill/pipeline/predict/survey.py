"""Find the pictures of the survey to predict: a list of objects, and how to read and prepare them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.artifacts.manifest import describe_kind, kind_of, open_manifest
from raydistill.artifacts.tables import read_table
from raydistill.config import Images
from raydistill.datasets.base import DataSet
from raydistill.errors import ArtifactIncompatible
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.pipeline.pictures.preparing import Preparation
from raydistill.pipeline.plan import ArtifactSpec, Plan
from raydistill.pipeline.predict.readers import OBJECTS, ParquetReader, Reader
from raydistill.storage import Folder


@dataclass(frozen=True)
class SurveyPictures:
    """The pictures of a survey.

    Parameters
    ----------
    name
        The last part of its path.
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
        What identifies the pictures, as plain values.
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


def open_survey(plan: Plan, uri: str) -> SurveyPictures:
    """Return the pictures of a survey.

    Parameters
    ----------
    plan
        The plan of the experts, whose config says how pictures are prepared.
    uri
        Folder of a curated set.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible
        There is no artifact, or it has no pictures.
    """
    return _of_artifact(plan, Folder(uri))


def _of_artifact(plan: Plan, folder: Folder) -> SurveyPictures:
    """Return the pictures of an artifact with rows of `object_id` and `image`, such as a curated set.

    Its pictures are cropped and aligned already, so they are only resized.
    """
    kind = kind_of(folder)
    manifest = open_manifest(folder, kind)
    names = [name for name in sorted(manifest.files) if name.startswith("data/") and name.endswith(".parquet")]
    parts = [part for name in names for part in _rows_of_file(folder, name)]
    if not parts:
        what = f"this is a {describe_kind(kind)[0]}, which has no pictures to predict"
        raise ArtifactIncompatible(what, folder.uri, "give a config, a curated set or a folder of pictures")
    curate = plan.config.curate
    spec = ArtifactSpec(kind, manifest.identity, folder, manifest.seed, manifest.config, {})
    return SurveyPictures(
        name=_last_part(folder.uri), uri=folder.uri, objects=pa.concat_tables(parts),
        reader=ParquetReader(folder.uri, "image", folder.uri),
        images=FolderImages(root=folder.uri, value_range="full", fit="crop"),  # decodes PNG
        preparation=Preparation(curate.image_size, 1.0, align=False, min_size=1, min_contrast=0),
        identity={"content": manifest.content}, parents={"survey": spec},
    )  # fmt: skip


def _rows_of_file(folder: Folder, name: str) -> list[pa.Table]:
    """Return the objects of each row group of a Parquet file; none if it has no pictures."""
    with folder.open(name) as stream:
        file = pq.ParquetFile(stream, pre_buffer=False)
        if not {"object_id", "image"} <= set(file.schema_arrow.names):
            return []
        lengths = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    ids = read_table(folder, name, ["object_id"])["object_id"]
    parts, first = [], 0
    for group, length in enumerate(lengths):
        columns = {
            "object_id": ids.slice(first, length),
            "path": pa.array([name] * length, pa.string()),
            "row_group": pa.array([group] * length, pa.int64()),
            "row": pa.array(range(length), pa.int64()),
        }
        parts.append(pa.table(columns).cast(OBJECTS))
        first += length
    return parts


def _last_part(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2]
