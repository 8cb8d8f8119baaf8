"""The pictures of a folder or a zip, whose files name the objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pyarrow as pa

from raydistill.config import CatalogSurvey, Images, plain
from raydistill.datasets.base import DataSet
from raydistill.errors import CatalogError
from raydistill.galaxies.hidden import is_hidden
from raydistill.galaxies.pictures.cells import OBJECTS
from raydistill.galaxies.pictures.files import FITS_SUFFIXES, PICTURE_SUFFIXES, digest_files, list_files, suffix_of
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.outside import check_links
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.surveys.finding import absolute
from raydistill.surveys.preparing import Preparation
from raydistill.surveys.readers import FileReader
from raydistill.surveys.survey import SurveyPictures, last_part

log = get_logger(__name__)


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
    own = plan.config.survey
    images, suffixes = _decoder(plan, root, present)
    names = [name for name in present if suffix_of(name, suffixes)]
    if not names:
        what = f"none of its {len(present)} files is a picture"
        raise CatalogError(what, root, f"give a folder of files such as {', '.join(suffixes[:3])}")
    check_links(root, names, "copy them into it, or give a config whose survey has allow_outside: true")
    if ignored := len(present) - len(names):
        log.info("predict: %d files in %s are no pictures", ignored, root)
    preparation = Preparation.of(plan.config.curate, images)
    if isinstance(own, DataSet):
        preparation = replace(preparation, min_contrast=0)
    objects = pa.table({"object_id": _object_ids(names, suffixes), "path": pa.array(names, pa.string())})
    return SurveyPictures(
        last_part(root), root, _with_nulls(objects), FileReader(root), images, preparation,
        {"files_sha256": digest_files(root, names), "images": _plain_images(images)},
    )  # fmt: skip


def _decoder(plan: Plan, root: str, present: Collection[str]) -> tuple[Images, tuple[str, ...]]:
    """Return how to decode the files, and their suffixes."""
    own = plan.config.survey
    images = own.images if isinstance(own, CatalogSurvey) else None
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
        source: Any = own if images is None else images
        if hasattr(source, name):
            options[name] = getattr(source, name)
    return FolderImages(root=root, pattern="{id}.*", **options), PICTURE_SUFFIXES


def _object_ids(names: list[str], suffixes: tuple[str, ...]) -> pa.Array:
    """Return each name without its suffix, or with it where that is not unique."""
    stems = [name[: -len(suffix_of(name, suffixes))] for name in names]
    counts = Counter(stems)
    ids = [stem if counts[stem] == 1 else name for stem, name in zip(stems, names, strict=True)]
    return pa.array(ids if len(set(ids)) == len(ids) else names, pa.string())  # a.png.png beside a.png and a.jpg


def _with_nulls(objects: pa.Table) -> pa.Table:
    for name in ("row_group", "row"):
        objects = objects.append_column(name, pa.nulls(len(objects), pa.int64()))
    return objects.cast(OBJECTS)


def _plain_images(images: Images) -> dict[str, Any]:
    """Return the options of the decoder without its folder."""
    return {key: value for key, value in plain(images).items() if key != "root"}
