"""Choose a survey's display range from sampled pictures, and check it.

The driver reads the sample before a cluster starts. Pictures of 8 bits need no choice: a few of
them end the sampling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.config import Images
from raydistill.datasets.base import DataSet, EncodedDataSet, PackedDataSet
from raydistill.datasets.table import ImageTable
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.cells import read_cell
from raydistill.galaxies.pictures.files import ALLOW_IMAGES, Source, below, check_source, read_source
from raydistill.galaxies.pictures.fits import unit_of
from raydistill.galaxies.pictures.images import RejectedImage, picture_extent
from raydistill.galaxies.pictures.levels import Extent, choose_range
from raydistill.galaxies.pictures.mosaics import BandImages
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.log import get_logger
from raydistill.stages.curate.summary import Levels, format_levels
from raydistill.surveys.survey import SurveyPictures

log = get_logger(__name__)

NUM_PROBES = 8  # pictures; if none has more than 8 bits, the range is not chosen
NUM_DEEP = 256  # pictures of more than 8 bits, which decide the range
NUM_FITS = 16
_EIGHT_BITS = (".jpg", ".jpeg", ".gif", ".webp")  # suffixes of formats that have no more

FLAT = 3  # levels: a channel with less contrast has no structure
DARK = 64  # levels: a survey whose brightest pixel is darker does not use its range
MAX_SATURATED = 0.01  # share of the pixels
REJECTED_SATURATED = 0.5


def resolve_levels(images: Images | DataSet, selected: pa.Table) -> Images | DataSet:
    """Return the source with numbers for `value_range: auto` and `stretch: auto`.

    Parameters
    ----------
    images
        A survey's pictures, or a data set.
    selected
        The galaxies to decode, with `path`.

    Raises
    ------
    CatalogError
        If no usual range fits the pictures, or if the stretch shows nothing in the sample.
    """
    if isinstance(images, BandImages):
        return _resolve_stretch(images, selected)
    if not isinstance(images, (FolderImages, ParquetImages, EncodedDataSet)) or images.value_range != "auto":
        return images
    extents = _extents(images, selected, NUM_PROBES)
    if not extents:
        return images
    extents = _extents(images, selected, NUM_DEEP)
    key = "survey.value_range" if isinstance(images, DataSet) else "survey.images.value_range"
    where = images.uri if isinstance(images, ParquetImages) else images.root
    chosen = choose_range(extents, where, key)
    low, high = min(extent.lowest for extent in extents), max(extent.highest for extent in extents)
    shown = chosen if isinstance(chosen, str) else f"[{chosen[0]:g}, {chosen[1]:g}]"
    what = "curate: pixels reach from %g to %g in %d sampled pictures; display range: %s=%s"
    log.info(what, low, high, len(extents), key, shown)
    return replace(images, value_range=chosen)


def chosen_levels(configured: Images | DataSet, resolved: Images | DataSet) -> Levels:
    """Return the numbers chosen in place of `auto`, by key.

    The usual range "full" is not a number and is left out.
    """
    chosen: Levels = {}
    for key in ("value_range", "stretch", "minimum"):
        value: Any = getattr(resolved, key, "full")
        if value not in (getattr(configured, key, "full"), "full"):
            chosen[key] = list(value) if isinstance(value, tuple) else value
    return chosen


def _extents(images: FolderImages | ParquetImages | EncodedDataSet, selected: pa.Table, count: int) -> list[Extent]:
    """Return the extents of the pictures of more than 8 bits in a sample."""
    extents, sizes = [], []  # sizes [bytes] of those that are not pictures
    for source in _sample(images, selected, count):
        content = b""
        try:
            content, _ = read_source(source)
            extents.append(picture_extent(content))
        except RejectedImage:
            sizes.append(len(content))
    if not extents and isinstance(images, (ParquetImages, ImageTable)):
        _reject_raw_pixels(images, sizes)
    return [extent for extent in extents if extent is not None]


def _reject_raw_pixels(images: ParquetImages | ImageTable, sizes: list[int]) -> None:
    """Raise CatalogError if no row holds a picture and all have the same size.

    Such rows hold raw pixels.
    """
    if len(sizes) > 1 and sizes[0] and len(set(sizes)) == 1:
        what = f"column '{images.image_column}' holds bytes, {sizes[0]} in each row, in no known picture format"
        where = images.uri if isinstance(images, ParquetImages) else images.root
        raise CatalogError(what, where, "raw pixels have no shape: store PNG files, or arrays H x W x 3")


def _sample(images: FolderImages | ParquetImages | EncodedDataSet, selected: pa.Table, count: int) -> Iterator[Source]:
    """Yield some pictures: files at even intervals, and tables from their start."""
    if isinstance(images, ParquetImages):
        yield from _sample_of_table(images, count)
    elif isinstance(images, PackedDataSet):
        yield from _sample_of_row_groups(images, selected, count)
    else:
        for path in _evenly(selected["path"], count):
            if not path.lower().endswith(_EIGHT_BITS):
                yield below(images.root, path)


def _sample_of_table(images: ParquetImages, count: int) -> Iterator[Source]:
    folder, left = images.folder(), count
    for fragment in images.dataset().get_fragments():
        options = {"batch_readahead": 0, "fragment_readahead": 0, "use_threads": False}
        for batch in fragment.to_batches(columns=[images.image_column], batch_size=min(left, 64), **options):
            for cell in batch.column(0)[:left]:
                source = read_cell(cell, folder)
                yield source if images.allow_outside else check_source(source, folder, images.uri, ALLOW_IMAGES)
            left -= len(batch)
            if left <= 0:
                return


def _sample_of_row_groups(images: PackedDataSet, selected: pa.Table, count: int) -> Iterator[Source]:
    """Yield pictures of at most four row groups."""
    groups = selected.group_by(["path", "row_group"], use_threads=False).aggregate([]).to_pylist()
    chosen = [groups[i] for i in sorted({*np.linspace(0, len(groups) - 1, 4).astype(int).tolist()})]
    for group in chosen:
        here = pc.and_(pc.equal(selected["path"], group["path"]), pc.equal(selected["row_group"], group["row_group"]))
        rows = sorted(selected.filter(here)["row"].to_pylist())[: max(1, count // len(chosen))]
        yield from images.read(group["path"], group["row_group"], rows)


def _evenly(column: pa.ChunkedArray, count: int) -> list[str]:
    positions = np.unique(np.linspace(0, len(column) - 1, min(count, len(column))).astype(int))
    return column.take(positions).to_pylist()


def _resolve_stretch(images: BandImages, selected: pa.Table) -> BandImages:
    """Return FITS files with a stretch; reject one that shows nothing in the sample."""
    sample = []
    for path in _evenly(selected["path"], NUM_FITS):
        with suppress(RejectedImage):
            sample.append(images.read(below(images.root, path)))
    is_auto = images.stretch == "auto"
    if is_auto:
        images = images.with_stretch_of(sample)
        what = "curate: survey.images.stretch=auto is %g, minimum %s (unit: %s), from %d sampled files"
        log.info(what, images.stretch, images.minimum, unit_of(sample[0]), len(sample))
    if sample and "mag" in re.split("[^a-z]+", unit_of(sample[0]).lower()):
        what = "curate: the unit of the FITS files is %s: light is low in magnitudes, so galaxies are dark; use fluxes"
        log.warning(what, unit_of(sample[0]))
    pictures = []
    for contents in sample:
        with suppress(RejectedImage):
            pictures.append(images.decode_bands(contents, "")[0])
    if pictures:
        _reject_useless_stretch(images, pictures, is_auto, sample[0])
    return images


def _reject_useless_stretch(
    images: BandImages, pictures: Sequence[np.ndarray], is_auto: bool, first: Sequence[bytes]
) -> None:
    saturated = max(np.mean([(picture[..., channel] == 255).mean() for picture in pictures]) for channel in range(3))
    flat = np.mean([np.ptp(picture, axis=(0, 1)).max() < FLAT for picture in pictures])
    if saturated <= REJECTED_SATURATED and flat <= REJECTED_SATURATED:
        return
    problem = f"{saturated:.0%} of the pixels of a band are white" if saturated > REJECTED_SATURATED else (
        f"{flat:.0%} of the sampled pictures have no structure"
    )  # fmt: skip
    raise CatalogError(
        f"with stretch {images.stretch:g} and minimum {images.minimum} (unit: {unit_of(first)}), {problem}", images.root,
        "give survey.images.channels for bands with light" if is_auto else
        "set survey.images.stretch=auto, or stretch and minimum in the unit of the files",
    )  # fmt: skip


@dataclass
class LevelChecks:
    """Count dark, flat and saturated pictures of a survey; warn of them at the end.

    Parameters
    ----------
    num_pictures
        Number of pictures.
    num_flat, num_flat_channel
        Pictures without contrast in all channels, and in some of them.
    highest
        The brightest level.
    num_dark
        Pictures whose brightest level is below `DARK`.
    saturated
        Sum over the pictures of the share of saturated pixels.
    """

    num_pictures: int = 0
    num_flat: int = 0
    num_flat_channel: int = 0
    highest: int = 0
    num_dark: int = 0
    saturated: float = 0.0

    def add(self, decoded: pa.Table) -> None:
        """Add the rows with a picture."""
        names = ["highest", "flat_channels", "saturated"]
        rows = decoded.filter(pc.is_null(decoded["reason"])).select(names)
        for row in rows.to_pylist():
            self._add(**row)

    def add_measured(self, levels: Mapping[str, Sequence[Any]]) -> None:
        """Add the result of `measure_levels`."""
        for values in zip(*levels.values(), strict=True):
            self._add(**dict(zip(levels, values, strict=True)))

    def _add(self, highest: int, flat_channels: int, saturated: float) -> None:
        self.merge(LevelChecks(1, flat_channels == 3, 0 < flat_channels < 3, highest, highest < DARK, saturated))

    def merge(self, other: LevelChecks) -> None:
        """Add the counts of other pictures."""
        self.num_pictures += other.num_pictures
        self.num_flat += other.num_flat
        self.num_flat_channel += other.num_flat_channel
        self.highest = max(self.highest, other.highest)
        self.num_dark += other.num_dark
        self.saturated += other.saturated

    def warn(self, images: Images | DataSet, stage: str = "curate") -> None:
        """Log a warning for each fault that the survey shows."""
        if not (total := self.num_pictures):
            return
        is_fits = isinstance(images, BandImages)
        prefix = "survey" if isinstance(images, DataSet) else "survey.images"
        keys = f"{prefix}.value_range"
        if isinstance(images, BandImages):
            keys = f"survey.images.stretch={images.stretch} and minimum={images.minimum}, in the unit of the files"
        if self.highest < DARK:
            log.warning("%s: the brightest pixel has level %d of 255; check %s", stage, self.highest, keys)
        elif self.num_dark > total / 2:
            what = "%s: %d of %d pictures have no pixel above level %d of 255; check %s"
            log.warning(what, stage, self.num_dark, total, DARK, keys)
        if self.num_flat > MAX_SATURATED * total:
            what = "%s: %d of %d pictures have a contrast below %d levels; check %s"
            log.warning(what, stage, self.num_flat, total, FLAT, keys)
        if is_fits and self.num_flat_channel > total / 2:
            what = "%s: a colour is constant in %d of %d pictures; check survey.images.channels"
            log.warning(what, stage, self.num_flat_channel, total)
        is_scaled = is_fits or isinstance(getattr(images, "value_range", None), tuple)
        if is_scaled and self.saturated > MAX_SATURATED * total:
            what = "%s: %.1f %% of the pixels are saturated (level 255); check %s"
            log.warning(what, stage, 100 * self.saturated / total, keys)


def planes(pixels_NHWC: np.ndarray) -> np.ndarray:
    """Return the pixels as `[N, 3, P]`, in the order that `measure_levels` needs."""
    return np.ascontiguousarray(pixels_NHWC.reshape(len(pixels_NHWC), -1, 3).transpose(0, 2, 1))


def measure_levels(planes_N3P: np.ndarray) -> dict[str, list[Any]]:
    """Return the numbers of prepared pictures that `LevelChecks` adds, by name.

    Parameters
    ----------
    planes_N3P : uint8 `[N, 3, P]`
        The colours of all pixels. numpy is five times slower over `[N, P, 3]`.
    """
    highest_N3 = planes_N3P.max(axis=2)
    is_saturated = (planes_N3P == 255).any(axis=1)
    return {
        "highest": highest_N3.max(axis=1).tolist(),
        "flat_channels": (highest_N3 - planes_N3P.min(axis=2) < FLAT).sum(axis=1).tolist(),
        "saturated": (is_saturated.sum(axis=1) / planes_N3P.shape[2]).tolist(),
    }


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
            "predict: the display range of %s is assumed to be that of the experts' survey: %s", pictures.name, shown
        )
        return replace(pictures, images=replace(images, **assumed)), {key: levels[key] for key in assumed}
    resolved = _resolve(images, pictures)
    chosen = chosen_levels(images, resolved)
    if chosen and not isinstance(images, DataSet):
        what = "predict: the experts' survey needed no choice of a display range; %s is assumed from a sample: %s"
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
