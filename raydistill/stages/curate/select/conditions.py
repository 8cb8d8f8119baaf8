"""Turn what is known of galaxies into the conditions of a generator.

A condition has groups (`diffusion.conditions`):

- "votes": the conditional vote fractions of the survey's decision tree;
- "class": one number per class, 1 for the galaxy's class and 0 for the others;
- "size": log10 of the Petrosian radius `petro_r90`;
- "colour": two colours of the picture, see `picture_colours`;
- "embedding": components of an expert's features of the picture, see `stages.experts.classify.embedding`.

Size and colour are standardised by the training galaxies. An unknown quantity is NaN, or -1 for a
class.

Shapes: N galaxies, A answers of a decision tree, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from raydistill.artifacts.tables import decode_images
from raydistill.diffusion.conditions import ConditionGroup, ConditionLayout, Conditions
from raydistill.diffusion.options import Group
from raydistill.errors import ArtifactIncompatible
from raydistill.galaxies.trees import GZ2, TREES
from raydistill.stages.curate.artifact import CuratedSet, partition

MAX_STATISTICS = 20_000  # pictures whose colours are measured: the error of a mean is then below 1 % of the spread
BLACK = 0.5 / 255  # added to the mean of a channel: half a grey level, so that a black picture has a logarithm


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each number of a group."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, values_NG: np.ndarray) -> Scale:
        """Return the statistics of values without NaN; equal values have the deviation 1."""
        std = values_NG.std(axis=0)
        return cls(tuple(values_NG.mean(axis=0).tolist()), tuple(np.where(std > 0, std, 1).tolist()))

    def apply(self, values_NG: np.ndarray) -> np.ndarray:
        """Return standardised values."""
        return (values_NG - np.array(self.mean)) / np.array(self.std)


@dataclass(frozen=True)
class ConditionEncoding:
    """How the properties of galaxies become the numbers of a condition.

    Parameters
    ----------
    layout
        The groups of a condition.
    scales
        Statistics of the groups "size" and "colour".
    """

    layout: ConditionLayout
    scales: Mapping[str, Scale] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups."""
        return tuple(group.name for group in self.layout.groups)

    def encode(
        self,
        num_galaxies: int,
        *,
        votes_NA: np.ndarray | None = None,
        labels_N: np.ndarray | None = None,
        petro_r90_N: np.ndarray | None = None,
        colours_N2: np.ndarray | None = None,
        embeddings_NE: np.ndarray | None = None,
    ) -> Conditions:
        """Return the conditions of galaxies.

        Parameters
        ----------
        num_galaxies
            The number N of galaxies.
        votes_NA
            Vote fractions in [0, 1]; NaN where unknown.
        labels_N
            Indices of the classes; -1 where unknown.
        petro_r90_N
            Radii in arcsec; NaN where unknown.
        colours_N2
            As `picture_colours` returns them; NaN where unknown.
        embeddings_NE
            Embeddings of pictures; NaN where unknown.

        Returns
        -------
        Conditions
            N conditions. A quantity that the layout lacks is left out; None is unknown.
        """
        values = {
            "votes": votes_NA,
            "class": None if labels_N is None else self._one_hot(labels_N),
            "size": None if petro_r90_N is None else log_radius(petro_r90_N),
            "colour": colours_N2,
            "embedding": embeddings_NE,
        }
        known = {name: array for name, array in values.items() if array is not None and name in self.groups}
        return Conditions.of(self.layout, num_galaxies, **{name: self._scaled(name, known[name]) for name in known})

    def _one_hot(self, labels_N: np.ndarray) -> np.ndarray:
        columns = self.layout.slice("class") if "class" in self.groups else slice(0, 0)
        one_hot_NK = (labels_N[:, None] == np.arange(columns.stop - columns.start)).astype(np.float32)
        one_hot_NK[labels_N < 0] = np.nan
        return one_hot_NK

    def _scaled(self, name: str, values_NG: np.ndarray) -> Tensor:
        scaled = self.scales[name].apply(values_NG) if name in self.scales else values_NG
        return torch.as_tensor(np.asarray(scaled, np.float32))


def log_radius(petro_r90_N: np.ndarray) -> np.ndarray:
    """Return log10 of radii as [N, 1]; NaN where a radius is unknown or not positive."""
    radii_N = np.asarray(petro_r90_N, np.float64)
    return np.log10(np.where(radii_N > 0, radii_N, np.nan))[:, None]


def picture_colours(pictures_NHWC: np.ndarray | Tensor) -> np.ndarray:
    """Return two colours of each picture.

    Parameters
    ----------
    pictures_NHWC
        uint8 [N, H, W, 3]. Red, green and blue of SDSS pictures are the bands i, r and g.

    Returns
    -------
    numpy.ndarray
        float64 [N, 2]: log10 of the mean red, and of the mean blue, over the mean green.
    """
    means_N3 = torch.as_tensor(pictures_NHWC).double().mean(dim=(1, 2)).numpy() / 255 + BLACK
    return np.log10(means_N3[:, [0, 2]] / means_N3[:, [1]])


def votes_of(column: pa.ChunkedArray, num_answers: int) -> np.ndarray:
    """Return a column of vote fractions as float32 [N, A]; rows of NaN for nulls."""
    votes_NA = np.full((len(column), num_answers), np.nan, np.float32)
    known = column.drop_null().combine_chunks().flatten().to_numpy(zero_copy_only=False)
    votes_NA[column.is_valid().to_numpy()] = known.reshape(-1, num_answers)
    return votes_NA


def columns_of(encoding: ConditionEncoding) -> list[str]:
    """Return the curated columns that `conditions_of` reads, apart from the pictures."""
    return [column for group, column in (("votes", "votes"), ("size", "petro_r90")) if group in encoding.groups]


def conditions_of(
    rows: pa.Table,
    labels_N: np.ndarray,
    images_NHWC: np.ndarray | Tensor,
    encoding: ConditionEncoding,
    embeddings_NE: np.ndarray | None = None,
) -> Conditions:
    """Return the conditions of rows of a curated set.

    Parameters
    ----------
    rows
        Table with the columns `columns_of(encoding)`.
    labels_N
        Their classes.
    images_NHWC
        Their decoded pictures, uint8.
    encoding
        How they are encoded.
    embeddings_NE
        Embeddings of the pictures, for a group of this name.
    """
    layout, groups = encoding.layout, encoding.groups
    return encoding.encode(
        len(rows),
        votes_NA=votes_of(rows["votes"], _size(layout, "votes")) if "votes" in groups else None,
        labels_N=labels_N if "class" in groups else None,
        petro_r90_N=_floats(rows["petro_r90"]) if "size" in groups else None,
        colours_N2=picture_colours(images_NHWC) if "colour" in groups else None,
        embeddings_NE=embeddings_NE,
    )


def fit_encoding(
    curated: CuratedSet,
    names: Sequence[Group] | None = None,
    extras: Sequence[CuratedSet] = (),
    embedding_size: int = 1,
) -> ConditionEncoding:
    """Return the encoding for a curated set, with statistics of its training galaxies.

    Parameters
    ----------
    curated
        The curated set.
    names
        Groups of the conditions. None: votes, class and size, as far as the sets have them.
    extras
        Further sets with training galaxies, whose votes and radii count too.
    embedding_size
        Numbers of the group "embedding".

    Raises
    ------
    ArtifactIncompatible
        No training galaxy has a quantity that `names` requests.
    """
    rows = pa.concat_tables([dataset.table("train", ["votes", "petro_r90"]) for dataset in (curated, *extras)])
    radii_N1 = log_radius(_floats(rows["petro_r90"]))
    available = {
        "votes": rows["votes"].null_count < len(rows),
        "class": curated.has_classes,
        "size": not np.isnan(radii_N1).all(),
        "colour": True,
        "embedding": True,
    }
    usual: tuple[Group, ...] = ("votes", "class", "size")
    names = [name for name in usual if available[name]] if names is None else names
    for name in names:
        if not available[name]:
            what = f"no training galaxy has a {name}, which generate.conditions names".replace("a votes", "votes")
            raise ArtifactIncompatible(what, curated.folder.uri, "leave it out of generate.conditions")
    numbers = {
        "votes": TREES[curated.summary.tree or GZ2.name].answers,
        "class": tuple(curated.class_names),
        "size": ("log10 petro_r90",),
        "colour": ("red/green", "blue/green"),
        "embedding": tuple(f"component {n}" for n in range(1, embedding_size + 1)),
    }
    scales = {}
    if "size" in names:
        scales["size"] = Scale.of(radii_N1[~np.isnan(radii_N1)][:, None])
    if "colour" in names:
        scales["colour"] = Scale.of(np.concatenate(list(_training_colours(curated))))
    groups = tuple(ConditionGroup(name, len(numbers[name]), numbers[name]) for name in names)
    return ConditionEncoding(ConditionLayout(groups), scales)


def _training_colours(curated: CuratedSet) -> Iterator[np.ndarray]:
    """Yield colours [n, 2] of evenly spaced training pictures.

    They are at most `MAX_STATISTICS` in all.
    """
    spacing = ceil(curated.summary.num_train / MAX_STATISTICS)
    first = 0
    for label in range(curated.num_classes):
        if (name := partition("train", label)) not in curated.manifest.files:
            continue
        with curated.folder.open(name) as source:
            file = pq.ParquetFile(source, pre_buffer=False)
            for batch in file.iter_batches(1024, columns=["image"], use_threads=False):
                chosen = np.arange(-first % spacing, len(batch), spacing)
                first += len(batch)
                if len(chosen):
                    images = pa.Table.from_batches([batch]).take(chosen)["image"]
                    yield picture_colours(decode_images(images, curated.summary.image_size))


def _size(layout: ConditionLayout, name: str) -> int:
    columns = layout.slice(name)
    return columns.stop - columns.start


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers as float64 [N]; NaN in place of nulls."""
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
