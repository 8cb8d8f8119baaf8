"""Define `SyntheticSet`: pictures that were not observed.

A generator sampled them, a physical model was applied to real ones, or they were simulated.

- `data/label=<index>/part-0.parquet`: rows sorted by index, images as lossless PNG. The label is -1
  where the condition determines no class. pandas and pyarrow read the folder `data`.
- `summary.json`: class names, counts, and how the pictures were sampled.
- `grid.png`: pictures of each class.
- `whitening.safetensors`: that of the curated set, where it has one.

A sample must not pass for a galaxy. So every row has `synthetic = true`, every object id starts with
"synthetic-", and every PNG says in its metadata how it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import TensorDataset

from raydistill.artifacts import kinds
from raydistill.artifacts.manifest import Manifest
from raydistill.artifacts.records import Record, read_json
from raydistill.artifacts.tables import LabelledImages
from raydistill.stages.curate import artifact as curated
from raydistill.storage import Folder

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import Table
    from datasets import Dataset

KIND = kinds.SYNTHETIC
LEFT_OUT = ("image", "condition", "source", "parameters")  # columns that an astropy table does not have
NO_CLASS = -1  # label of a sample whose condition determines no class

# The columns of a curated set, then those that only samples have.
SCHEMA = pa.schema(
    [
        *curated.SCHEMA,
        ("synthetic", pa.bool_()),  # always true
        ("index", pa.int64()),  # with the seed it determines all random numbers of the sample
        ("condition", pa.list_(pa.float32())),  # the generator's input, null where unknown; `Summary.condition`
        ("guidance", pa.float64()),
        ("origin", pa.string()),  # object id of the real galaxy whose condition or picture was taken, or null
        ("recognised", pa.float64()),  # the experts' probability of the sample's class, or null
        ("generator", pa.string()),  # content digest, or null
        ("seed", pa.int64()),
        ("made_by", pa.string()),  # kind of the source
        ("start", pa.string()),  # object id of the galaxy whose noised picture was the first state, or of the host
        ("injected", pa.string()),  # kind of the model that changed the picture of `origin`, or null
        ("parameters", pa.map_(pa.string(), pa.float64())),  # the truth of an injection or a simulation, or null
    ]
)


@dataclass(frozen=True)
class SyntheticClass:
    """Counts of one class of a synthetic set.

    Attributes
    ----------
    name
        Name of the class.
    sampled
        Pictures that were sampled, up to the last one that was needed.
    kept
        Pictures in the set. Without a filter all are kept.
    """

    name: str
    sampled: int
    kept: int

    @property
    def share(self) -> float | None:
        """Return kept / sampled, or None where nothing was sampled."""
        return self.kept / self.sampled if self.sampled else None


@dataclass(frozen=True, kw_only=True)
class SyntheticSummary(Record):
    """The contents of `summary.json`.

    Attributes
    ----------
    synthetic
        Always true.
    survey
        Name of the survey on which the generator was trained.
    simulated
        Whether that survey was simulated.
    image_size
        Side of the images in pixels.
    crop_fraction, aligned
        Crop and alignment of the training images, as in `stages.curate.summary.Summary`.
    mean, std
        Statistics of each colour channel of the real training images, in units where white is 1.
    tree
        Name of the decision tree of `votes`. Empty for Galaxy Zoo 2, and for a survey without votes.
    classes
        Counts of each class; the index is the label.
    unlabelled
        Counts of the samples whose condition determines no class.
    generator
        Content digest of the generator; None for another source.
    condition
        Name and size of each group of the column `condition`, in order.
    guidance, steps
        Scale of the classifier-free guidance, and number of solver steps; None for another source.
    seed
        Root of the noise.
    min_probability
        Threshold of the filter on `recognised`; None: no filter.
    source
        How the pictures were made: `kind` is that of `sample.source`, and further keys are its
        values. The ranges of an injection are those after the fit.
    """

    synthetic: Literal[True] = True
    survey: str
    simulated: bool
    image_size: int
    crop_fraction: float
    aligned: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tree: str
    classes: tuple[SyntheticClass, ...]
    unlabelled: SyntheticClass
    generator: str | None
    condition: tuple[tuple[str, int], ...]
    guidance: float | None
    steps: int | None
    seed: int
    min_probability: float | None
    source: dict[str, Any] = field(default_factory=lambda: {"kind": "generator"})


@dataclass(frozen=True, repr=False)
class SyntheticSet(curated.LabelledSet):
    """An opened synthetic set. Methods read its files when they are called.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    summary
        Class names, counts, and how the pictures were sampled.

    Examples
    --------
    >>> import raydistill as rd
    >>> samples = rd.open("runs/demo/synthetic-0123456789ab")  # doctest: +SKIP
    >>> samples.to_pandas()["synthetic"].all()  # doctest: +SKIP
    True
    """

    summary: SyntheticSummary

    _pictures = "grid.png"

    kind = KIND

    @classmethod
    def _read(cls, folder: Folder, manifest: Manifest) -> Self:
        summary = read_json(folder, "summary.json", SyntheticSummary)
        entries = [*enumerate(summary.classes), (NO_CLASS, summary.unlabelled)]
        counts = {partition(label): entry.kept for label, entry in entries}
        return cls(folder, manifest, summary)._check_files("sample", "samples", counts)

    def _contents(self) -> str:
        kept = sum(entry.kept for entry in (*self.summary.classes, self.summary.unlabelled))
        return f"{kept} synthetic images of {self.num_classes} classes, {self.summary.image_size} pixels wide"

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """Return the rows and their `label`, sorted by index.

        Parameters
        ----------
        columns
            Names from `SCHEMA`; None means all.

        Returns
        -------
        pyarrow.Table
            The requested columns, then `label`: int32, -1 for a sample without a class.
        """
        files = {label: partition(label) for label in (NO_CLASS, *range(self.num_classes))}
        return self._table(files, columns, SCHEMA, "index")

    def load(self) -> LabelledImages:
        """Return the decoded images, labels and object ids, sorted by index.

        Returns
        -------
        LabelledImages
            The label is -1, and the confidence NaN, for a sample without a class.
        """
        return self._decode(self.table(["object_id", "confidence", "image"]))

    def to_torch(self) -> TensorDataset:
        """Return the samples as normalised images and labels.

        Returns
        -------
        torch.utils.data.TensorDataset
            Pairs (image, label), sorted by index. The image is float32 [3, H, W], normalised as the
            real training images are. The label is int64, -1 for a sample without a class.
        """
        return self._normalise(self.load())

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per sample, sorted by index.

        Returns
        -------
        pandas.DataFrame
            The columns of `SCHEMA` and `label`. `synthetic` is True in every row. `petro_r90` is in
            arcsec where it is known, else NaN. `image` holds the bytes of a PNG file, and `parameters`
            a dictionary.
        """
        return self.table().to_pandas(maps_as_pydicts="strict")

    def to_huggingface(self) -> Dataset:
        """Return the samples as a Hugging Face `datasets.Dataset` (extra `huggingface`).

        Returns
        -------
        datasets.Dataset
            Rows in the order of `to_torch`. `image` is an Image and `label` a ClassLabel, -1 for a
            sample without a class. `parameters` holds JSON; the other columns are those of
            `SCHEMA`.
        """
        from raydistill.exporting.huggingface import TRAIN, to_dataset_dict

        return to_dataset_dict(self)[TRAIN]

    def real_galaxies(self) -> set[str]:
        """Return object ids of the real galaxies whose conditions or pictures were taken.

        Examples to which an injection was fitted count too. The galaxies on which a generator was
        trained do not: they are the training galaxies of its parents.
        """
        rows = self.table(["origin", "start"])
        taken = {id_ for name in ("origin", "start") for id_ in rows[name].to_pylist() if id_ is not None}
        return taken | set(self.summary.source.get("examples", ()))

    def galaxies(self) -> list[str]:
        """Return the id of the galaxy that each picture shows, in the order of `load`.

        It is the real galaxy that was changed for it or whose condition it has, or else its own
        object id.
        """
        changed = ("origin", "start") if self.summary.source.get("part") == "companion" else ("start", "origin")
        ids = self.table([*changed, "object_id"])
        return pc.coalesce(*(ids[name] for name in (*changed, "object_id"))).to_pylist()

    def to_astropy(self) -> Table:
        """Return the rows as an astropy table with units, sorted by index.

        Returns
        -------
        astropy.table.Table
            `petro_r90` in arcsec; unknown numbers are masked. `votes` is [N, answers] where every
            sample has votes, and is left out otherwise. Pictures and conditions are left out: see
            `to_torch` and `to_pandas`. So are true parameters. The metadata have the key `SYNTH`, which is True.
        """
        table = curated.to_astropy(self.table([name for name in SCHEMA.names if name not in LEFT_OUT]).to_pandas())
        table.meta["SYNTH"] = True
        return table


def partition(label: int) -> str:
    """Return the file name of the samples of one class."""
    return f"data/label={label}/part-0.parquet"


def object_id(digest: str, index: int) -> str:
    """Return a sample's id: "synthetic-", 8 digits of the set's identity, the index."""
    return f"{KIND}-{digest[:8]}-{index:07d}"


def png_text(how: str, seed: int, index: int) -> Mapping[str, str]:
    """Return the metadata of a sample's PNG file, by keyword of the PNG specification.

    `how` is "generator" and its digest, or another source and what it made.
    """
    return {"Software": "raydistill", "Comment": f"synthetic: {how}, seed {seed}, index {index}"}
