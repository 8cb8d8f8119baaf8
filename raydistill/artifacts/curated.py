"""CuratedSet: the pictures and labels that everything after curation sees.

Parquet in `data/split=<train|validation|test>/label=<index>/part-0.parquet`, rows sorted by object id, images as lossless PNG;
`data` is readable by pandas, Hugging Face `datasets` and plain pyarrow. `summary.json` holds the class names, the counts and the channel
statistics of the training images. `whitening.safetensors` is there where the images are to be whitened.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset

from raydistill.artifacts.manifest import Manifest, opened
from raydistill.artifacts.tables import read_table
from raydistill.artifacts.tensors import WHITENING, read_whitening
from raydistill.core.normalise import AnyNormalisation, Normalisation
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible
from raydistill.galaxies.catalog_schemas import votes_array
from raydistill.galaxies.classes import ClassTree
from raydistill.storage import Folder

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import Table

KIND = "curated"
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

SCHEMA = pa.schema(
    [
        ("object_id", pa.string()),
        ("class_name", pa.string()),
        ("ra", pa.float64()),  # deg, ICRS
        ("dec", pa.float64()),  # deg, ICRS
        ("petro_r90", pa.float64()),  # arcsec
        ("redshift", pa.float64()),
        ("confidence", pa.float64()),
        # The 37 conditional fractions of the GZ2 tree, or null; the type leaves the number open, for Parquet readers of
        # fixed-size lists (pyarrow 25) refuse nulls.
        ("votes", pa.list_(pa.float32())),
        ("source", pa.struct([("path", pa.string()), ("sha256", pa.string())])),  # original file, below survey.images
        ("image", pa.binary()),  # PNG, RGB, [size, size, 3]
    ]
)

REJECTED_SCHEMA = pa.schema(
    [("object_id", pa.string()), ("source", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)


@dataclass(frozen=True)
class ClassSummary:
    """One class of a curated set: candidates before, kept after selection and image checks, and the lowest confidence kept."""

    name: str
    candidates: int
    kept: int
    train: int
    validation: int
    test: int
    lowest_confidence: float | None


@dataclass(frozen=True)
class Summary:
    """What a person wants to know of a curated set before anything else."""

    survey: str
    simulated: bool
    image_size: int
    crop_fraction: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[ClassSummary, ...]
    rejected: dict[str, int]  # pictures, by reason
    aligned: bool = False  # every long axis level
    unassigned: dict[str, int] = field(default_factory=dict)  # rows of the survey's table without a class, by reason

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


@dataclass(frozen=True)
class Labelled:
    """A split in memory: uint8 pictures [N, H, W, 3], labels [N], object ids, in order of object id."""

    images_NHWC: Tensor
    labels_N: Tensor
    object_ids: list[str]
    confidence_N: np.ndarray


@dataclass(frozen=True)
class CuratedSet:
    """An opened curated set; pixels are read when a split is asked for."""

    folder: Folder
    manifest: Manifest
    summary: Summary

    @staticmethod
    def open(uri: str | Folder, *, verify: bool = True) -> CuratedSet:
        """The curated set at a path or URI; `verify` and errors as of `manifest.opened`, ArtifactCorrupt for a wrong summary, too."""
        folder, manifest = opened(uri, KIND, verify=verify)
        raw: dict[str, Any] = json.loads(folder.read("summary.json"))
        classes = tuple(ClassSummary(**entry) for entry in raw.pop("classes"))
        raw |= {"mean": tuple(raw["mean"]), "std": tuple(raw["std"])}
        for label, entry in enumerate(classes):
            for split in SPLITS:
                if getattr(entry, split) and (name := partition(split, label)) not in manifest.files:
                    what = f"its summary counts galaxies in '{name}', which was not there when it was sealed"
                    raise ArtifactCorrupt(
                        what, folder.uri, "remove the folder and run 'raydistill curate CONFIG' again"
                    )
        return CuratedSet(folder, manifest, Summary(**raw, classes=classes))

    @property
    def class_names(self) -> list[str]:
        return [entry.name for entry in self.summary.classes]

    @property
    def num_classes(self) -> int:
        return len(self.summary.classes)

    @cached_property
    def normalisation(self) -> AnyNormalisation:
        """Of the training images; what is made from this set sees pixels through it."""
        if WHITENING in self.manifest.files:
            return read_whitening(self.folder)
        return Normalisation(self.summary.mean, self.summary.std)

    def table(self, split: Split, columns: list[str] | None = None) -> pa.Table:
        """All rows of a split with their integer `label`, sorted by object id."""
        wanted = SCHEMA.names if columns is None else list(columns)
        read = list(dict.fromkeys([*wanted, "object_id"]))  # what the rows are sorted by
        # In memory pictures are of a type that holds more than 2 GB of them.
        types = {**{name: SCHEMA.field(name).type for name in read}, "label": pa.int32()}
        schema = pa.schema(types | ({"image": pa.large_binary()} if "image" in read else {}))
        pieces = [schema.empty_table()]
        for label in range(self.num_classes):
            name = partition(split, label)
            if name in self.manifest.files:
                piece = read_table(self.folder, name, read)
                pieces.append(piece.append_column("label", pa.array([label] * len(piece))).cast(schema))
        return pa.concat_tables(pieces).sort_by("object_id").select([*wanted, "label"])

    def require_splits(self, *splits: Split) -> None:
        """ArtifactIncompatible unless each of these splits holds a galaxy."""
        empty = [split for split in splits if not self._count(split)]
        if empty:
            what = f"the {' and the '.join(empty)} split holds no galaxy"
            raise ArtifactIncompatible(what, self.folder.uri, "enlarge its part in curate.split, or the survey")

    @property
    def has_votes(self) -> bool:
        """False for a survey of labels."""
        return not self.table("train", ["votes"])["votes"].null_count

    def probabilities(self, split: Split, tree: ClassTree) -> Tensor:
        """float32 [N, K]: the volunteers' probability of each class of the set's class tree, rows in the order of `load`."""
        return torch.from_numpy(tree.probabilities(votes_array(self.table(split, ["votes"])))).float()

    def to_torch(self, split: Split = "train") -> TensorDataset:
        """Return a split as normalised images and labels.

        Returns
        -------
        torch.utils.data.TensorDataset
            Of pairs (image, label): float32 [3, H, W], normalised as networks see it, and int64,
            an index into `class_names`. Rows are sorted by object id.
        """
        loaded = self.load(split)
        return TensorDataset(self.normalisation.apply(loaded.images_NHWC), loaded.labels_N)

    def to_pandas(self, split: Split | None = None) -> pd.DataFrame:
        """Return one row per galaxy of a split, or of all splits, with a column `split`.

        Columns are those of `SCHEMA` and `label`; `image` holds the bytes of a PNG, so leave the
        column out of what you print.
        """
        splits = SPLITS if split is None else (split,)
        tables = [self.table(name).append_column("split", pa.array([name] * self._count(name))) for name in splits]
        return pa.concat_tables(tables).to_pandas()

    def to_astropy(self, split: Split | None = None) -> Table:
        """Return the catalog of a split, or of all splits, as an astropy table with units.

        Returns
        -------
        astropy.table.Table
            `ra` and `dec` in degrees (ICRS), `petro_r90` in arcsec; unknown numbers are masked.
            `votes` is [N, 37] where every galaxy has votes, and is left out otherwise. Pictures
            are left out: see `to_torch`.
        """
        from astropy import units
        from astropy.table import Table

        frame = self.to_pandas(split).drop(columns=["image"])
        votes = frame.pop("votes")
        frame["source"] = [source["path"] for source in frame["source"]]
        table = Table.from_pandas(frame, units={"ra": units.deg, "dec": units.deg, "petro_r90": units.arcsec})
        if len(votes) and votes.notna().all():
            table["votes"] = np.stack(list(votes))
        return table

    def _count(self, split: Split) -> int:
        return sum(getattr(entry, split) for entry in self.summary.classes)

    def load(self, split: Split) -> Labelled:
        table = self.table(split, ["object_id", "confidence", "image"])
        size = self.summary.image_size
        images = np.empty((len(table), size, size, 3), np.uint8)
        for row, png in enumerate(table["image"]):
            images[row] = np.asarray(Image.open(io.BytesIO(png.as_py())))
        return Labelled(
            torch.from_numpy(images),
            torch.tensor(table["label"].to_pylist(), dtype=torch.long),
            table["object_id"].to_pylist(),
            table["confidence"].to_numpy(),
        )


def partition(split: str, label: int) -> str:
    """File name of one class of one split."""
    return f"data/split={split}/label={label}/part-0.parquet"
