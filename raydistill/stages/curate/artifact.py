"""Define `CuratedSet`: the pictures and labels that all later stages read.

- `data/split=<train|validation|test>/label=<index>/part-0.parquet`: rows sorted by object id,
  images as lossless PNG. pandas, Hugging Face `datasets` and pyarrow read the folder `data`.
- `summary.json`: class names, counts, and channel statistics of the training images.
- `rejected.parquet`: a row per picture that failed the checks, with the reason.
- `examples.png`: pictures of each class.
- `near_duplicates.parquet`: a row per picture that looks like one of an earlier split; only where
  there are such pictures.
- `vote_totals.parquet`: the number of votes of each galaxy, where the survey's table has it.
- `whitening.safetensors`: the whitening transform, where `curate.whitening` is set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.manifest import Manifest
from raydistill.artifacts.records import read_json
from raydistill.artifacts.tables import LabelledImages, decode_images, read_table
from raydistill.artifacts.tensors import WHITENING, read_whitening
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible
from raydistill.galaxies.catalog import votes_array
from raydistill.galaxies.classes import UNLABELLED, ClassTree
from raydistill.galaxies.selection import SPLITS, Split
from raydistill.learning.normalise import AnyNormalisation, Normalisation
from raydistill.stages.curate.summary import Summary
from raydistill.storage import Folder

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import Table
    from datasets import DatasetDict


KIND = kinds.CURATED

SCHEMA = pa.schema(
    [
        ("object_id", pa.string()),
        ("class_name", pa.string()),
        ("ra", pa.float64()),  # deg, ICRS
        ("dec", pa.float64()),  # deg, ICRS
        ("petro_r90", pa.float64()),  # arcsec
        ("redshift", pa.float64()),
        ("confidence", pa.float64()),
        # The conditional fractions of the survey's tree, 37 for GZ2, or null. The list has no fixed
        # size because pyarrow 25 cannot read nulls in a fixed-size list.
        ("votes", pa.list_(pa.float32())),
        ("source", pa.struct([("path", pa.string()), ("sha256", pa.string())])),  # original file, below survey.images
        ("image", pa.binary()),  # PNG, RGB, [size, size, 3]
    ]
)

REJECTED_SCHEMA = pa.schema(
    [("object_id", pa.string()), ("source", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)

NEAR_DUPLICATES = "near_duplicates.parquet"
NEAR_DUPLICATES_SCHEMA = pa.schema(
    [
        ("object_id", pa.string()),
        ("split", pa.string()),
        ("other_id", pa.string()),  # the most similar picture of an earlier split
        ("other_split", pa.string()),
        ("distance", pa.int32()),  # bits of 192 by which their perceptual hashes differ
    ]
)


@dataclass(frozen=True, repr=False)
class LabelledSet(Displayed):
    """Pictures of classes, in a file of rows by class."""

    summary: Any

    @property
    def class_names(self) -> list[str]:
        """Return the class names; the index is the label."""
        return [entry.name for entry in self.summary.classes]

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.summary.classes)

    @cached_property
    def normalisation(self) -> AnyNormalisation:
        """Return the normalisation or whitening of the real training images.

        All networks use it.
        """
        if WHITENING in self.manifest.files:
            return read_whitening(self.folder)
        return Normalisation(self.summary.mean, self.summary.std)

    def _check_files(self, command: str, what: str, counts: Mapping[str, int]) -> Self:
        """Return self; raise ArtifactCorrupt if a file of some rows is missing."""
        for name, count in counts.items():
            if count and name not in self.manifest.files:
                what = f"its summary counts {what} in '{name}', which was not there at its commit"
                fix = f"remove the folder and run 'raydistill {command} CONFIG' again"
                raise ArtifactCorrupt(what, self.folder.uri, fix)
        return self

    def _table(self, files: Mapping[int, str], columns: list[str] | None, schema: pa.Schema, order: str) -> pa.Table:
        """Return columns of some labels' files, then `label`, in the order of a column."""
        selected = schema.names if columns is None else list(columns)
        read = list(dict.fromkeys([*selected, order]))
        # pa.binary holds at most 2 GB of pictures per column.
        types = {**{name: schema.field(name).type for name in read}, "label": pa.int32()}
        schema = pa.schema(types | ({"image": pa.large_binary()} if "image" in read else {}))
        tables = [schema.empty_table()]
        for label, name in files.items():
            if name in self.manifest.files:
                rows = read_table(self.folder, name, read)
                tables.append(rows.append_column("label", pa.array([label] * len(rows))).cast(schema))
        return pa.concat_tables(tables).sort_by(order).select([*selected, "label"])

    def _decode(self, table: pa.Table) -> LabelledImages:
        return LabelledImages(
            decode_images(table["image"], self.summary.image_size),
            torch.tensor(table["label"].to_pylist(), dtype=torch.long),
            table["object_id"].to_pylist(),
            np.asarray(table["confidence"].to_numpy(), np.float64),
        )

    def _normalise(self, loaded: LabelledImages) -> TensorDataset:
        return TensorDataset(self.normalisation.apply(loaded.images_NHWC), loaded.labels_N)


def to_astropy(frame: pd.DataFrame) -> Table:
    """Return rows as an astropy table with units; votes only if every row has them."""
    from astropy import units
    from astropy.table import Table

    votes = frame.pop("votes")
    table = Table.from_pandas(frame, units={"ra": units.deg, "dec": units.deg, "petro_r90": units.arcsec})
    if len(votes) and votes.notna().all():
        table["votes"] = np.stack(list(votes))
    return table


@dataclass(frozen=True, repr=False)
class CuratedSet(LabelledSet):
    """An opened curated set. Methods read the files of a split when they are called.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    summary
        Class names, counts and image statistics.

    Examples
    --------
    >>> import raydistill as rd
    >>> galaxies = rd.open("runs/demo/curated-0123456789ab")  # doctest: +SKIP
    >>> images, labels = galaxies.to_torch("train").tensors  # doctest: +SKIP
    """

    summary: Summary

    _pictures = "examples.png"

    kind = KIND

    @classmethod
    def _read(cls, folder: Folder, manifest: Manifest) -> Self:
        summary = read_json(folder, "summary.json", Summary)
        entries = enumerate(summary.classes)
        counts = {partition(split, label): getattr(entry, split) for label, entry in entries for split in SPLITS}
        return cls(folder, manifest, summary)._check_files("curate", "galaxies", counts)

    def _contents(self) -> str:
        counts = ", ".join(f"{self._count(split)} {split}" for split in SPLITS)
        return f"{counts} galaxies of {self.num_classes} classes, {self.summary.image_size} pixels wide"

    def table(self, split: Split, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of a split and their `label`, sorted by object id.

        Parameters
        ----------
        split
            "train", "validation" or "test".
        columns
            Names from `SCHEMA`; None means all.

        Returns
        -------
        pyarrow.Table
            The requested columns, then `label`.
        """
        files = {label: partition(split, label) for label in range(self.num_classes)}
        return self._table(files, columns, SCHEMA, "object_id")

    def require_splits(self, *splits: Split) -> None:
        """Raise ArtifactIncompatible unless each of these splits holds a galaxy."""
        empty = [split for split in splits if not self._count(split)]
        if empty:
            what = f"the {' and the '.join(empty)} split holds no galaxy"
            raise ArtifactIncompatible(what, self.folder.uri, "enlarge its part in curate.split, or the survey")

    @property
    def has_classes(self) -> bool:
        """Return whether the galaxies have classes."""
        return self.class_names != [UNLABELLED]

    @property
    def has_votes(self) -> bool:
        """Return whether every training galaxy has votes.

        A survey with labels alone has none.
        """
        return not self.table("train", ["votes"])["votes"].null_count

    def probabilities(self, split: Split, tree: ClassTree) -> Tensor:
        """Return the volunteers' class probabilities.

        Parameters
        ----------
        split
            "train", "validation" or "test".
        tree
            The set's class tree, which combines the vote fractions.

        Returns
        -------
        torch.Tensor
            float32 [N, K], rows in the order of `load`.
        """
        return torch.from_numpy(tree.probabilities(votes_array(self.table(split, ["votes"]), tree.tree))).float()

    def to_torch(self, split: Split = "train") -> TensorDataset:
        """Return a split as normalised images and labels.

        Parameters
        ----------
        split
            "train", "validation" or "test".

        Returns
        -------
        torch.utils.data.TensorDataset
            Pairs (image, label). The image is float32 [3, H, W], normalised for the networks. The
            label is int64, an index into `class_names`. Pairs are sorted by object id.
        """
        return self._normalise(self.load(split))

    def to_pandas(self, split: Split | None = None) -> pd.DataFrame:
        """Return one row per galaxy of a split, or of all splits.

        Parameters
        ----------
        split
            "train", "validation" or "test"; None means all.

        Returns
        -------
        pandas.DataFrame
            The columns of `SCHEMA`, `label` and `split`. `ra` and `dec` are in degrees (ICRS),
            `petro_r90` in arcsec. `image` holds the bytes of a PNG file.
        """
        by_split = {name: self.table(name) for name in (SPLITS if split is None else (split,))}
        tables = [rows.append_column("split", pa.repeat(name, len(rows))) for name, rows in by_split.items()]
        return pa.concat_tables(tables).to_pandas()

    def to_astropy(self, split: Split | None = None) -> Table:
        """Return the catalog of a split, or of all splits, as an astropy table with units.

        Parameters
        ----------
        split
            "train", "validation" or "test"; None means all.

        Returns
        -------
        astropy.table.Table
            `ra` and `dec` in degrees (ICRS), `petro_r90` in arcsec; unknown numbers are masked.
            `votes` is [N, answers] where every galaxy has votes, and is left out otherwise. Pictures
            are left out: see `to_torch`.
        """
        frame = self.to_pandas(split).drop(columns=["image"])
        frame["source"] = [source["path"] for source in frame["source"]]
        return to_astropy(frame)

    def to_huggingface(self, *, cache_dir: str | os.PathLike[str] | None = None) -> DatasetDict:
        """Return the set as a Hugging Face `datasets.DatasetDict` (extra `huggingface`).

        Parameters
        ----------
        cache_dir
            Folder for Arrow files that are mapped into memory, for a large set. None: hold the
            encoded pictures in memory.

        Returns
        -------
        datasets.DatasetDict
            A dataset per split that holds galaxies, in the order of `to_torch`. `image` is an Image
            and `label` a ClassLabel; the other columns are those of `SCHEMA`.
        """
        from raydistill.exporting.huggingface import to_dataset_dict

        return to_dataset_dict(self, cache_dir)

    def _count(self, split: Split) -> int:
        return sum(getattr(entry, split) for entry in self.summary.classes)

    def load(self, split: Split) -> LabelledImages:
        """Return the decoded images, labels and object ids of a split."""
        return self._decode(self.table(split, ["object_id", "confidence", "image"]))


def partition(split: str, label: int) -> str:
    """Return the file name of one class of one split."""
    return f"data/split={split}/label={label}/part-0.parquet"


# List the row groups of a curated set, and read columns of one.
#
# A row group is the unit of work: a process reads one at a time, and never a whole split.


# A block of work: its file, and `rows` of a row group or, where that is null, `pixels` of other pictures.
BLOCK_FIELDS = [
    ("block", pa.string()),
    ("folder", pa.string()),
    ("file", pa.string()),
    ("index", pa.int64()),
    ("label", pa.int64()),
    ("size", pa.int64()),
    ("rows", pa.list_(pa.int64())),
    ("pixels", pa.large_binary()),
]


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file of a curated set.

    Parameters
    ----------
    folder, file, index
        URI of the set, name of the file, and number of the row group in it.
    label
        Class of its galaxies.
    size
        Number of its galaxies.
    """

    folder: str
    file: str
    index: int
    label: int
    size: int

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return all rows, with these columns of `curated.SCHEMA`."""
        with Folder(self.folder).open(self.file) as source:
            file = pq.ParquetFile(source, pre_buffer=False)
            return file.read_row_group(self.index, list(columns), use_threads=False)


def row_groups(curated: CuratedSet, split: Split) -> list[RowGroup]:
    """Return a split's row groups with galaxies, in the order of labels and rows."""
    groups = []
    for label in range(curated.num_classes):
        name = partition(split, label)
        if name in curated.manifest.files:
            with curated.folder.open(name) as source:
                metadata = pq.ParquetFile(source, pre_buffer=False).metadata
            sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
            groups += [
                RowGroup(curated.folder.uri, name, index, label, size) for index, size in enumerate(sizes) if size
            ]
    return groups
