"""Define `GeneratorArtifact`: a trained generator of galaxy pictures.

- `model.safetensors`: the moving average of the parameters, and the statistics of the pictures.
- `generator.json`: the architecture, the groups of the conditions, class names and the training.
- `history.parquet`: loss and learning rate during the training, and the loss by time bin.
- `validation.parquet`: losses on validation pictures, and flux and colour of sampled pictures.
- `embedding.safetensors`: how features become the condition "embedding", if there is one.
- `previews/step-000500.png` …: real pictures above samples with the same conditions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import torch

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.records import Record
from raydistill.artifacts.tables import read_table
from raydistill.artifacts.tensors import read_tensors, write_tensors
from raydistill.diffusion.conditions import ConditionLayout
from raydistill.diffusion.model import Generator, build_generator
from raydistill.diffusion.options import Model, Sampling
from raydistill.errors import ArtifactCorrupt
from raydistill.galaxies.tree import DecisionTree
from raydistill.galaxies.trees import GZ2, TREES
from raydistill.stages.curate.select.conditions import ConditionEncoding
from raydistill.storage import Folder

KIND = kinds.GENERATOR
MODEL, SUMMARY = "model.safetensors", "generator.json"
HISTORY, VALIDATION, PREVIEWS = "history.parquet", "validation.parquet", "previews"

HISTORY_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("images", pa.int64()),  # training pictures used so far, with repetitions
        ("lr", pa.float64()),
        ("loss", pa.float64()),  # mean since the row before
        ("loss_by_time", pa.list_(pa.float64())),  # in ten bins of the time; null in an empty bin
    ]
)
VALIDATION_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("loss", pa.float64()),  # on validation pictures, of the averaged parameters
        ("loss_raw", pa.float64()),  # of the parameters themselves
        # Samples with the conditions of validation galaxies, minus those galaxies:
        ("bias_flux", pa.float64()),  # relative difference of the mean pixel
        ("bias_red", pa.float64()),  # dex, mean red over mean green
        ("bias_blue", pa.float64()),  # dex, mean blue over mean green
        ("bias_flux_raw", pa.float64()),
        ("bias_red_raw", pa.float64()),
        ("bias_blue_raw", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class GeneratorSummary(Record):
    """The contents of `generator.json`.

    Attributes
    ----------
    survey
        Name of the survey in the config.
    simulated
        Whether the survey was simulated.
    image_size
        Side of the pictures in pixels.
    crop_fraction, aligned
        Crop and alignment of the training pictures, as in `stages.curate.summary.Summary`.
    class_names
        Names of the classes; the index is the label. Empty for a set without classes.
    tree
        Name of the decision tree of the group "votes". Empty for Galaxy Zoo 2.
    encoding
        How properties of galaxies become conditions.
    model
        The architecture.
    sampling
        Default of the sampling.
    num_images
        Number of training pictures.
    num_parameters
        Number of parameters.
    steps, batch_size
        Steps of the training, and pictures per step.
    """

    survey: str
    simulated: bool
    image_size: int
    crop_fraction: float
    aligned: bool
    class_names: tuple[str, ...]
    tree: str
    encoding: ConditionEncoding
    model: Model
    sampling: Sampling
    num_images: int
    num_parameters: int
    steps: int
    batch_size: int


@dataclass(frozen=True, repr=False)
class GeneratorArtifact(Displayed):
    """An opened generator. Methods read its files when they are called.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    summary
        Architecture, conditions and training.

    Examples
    --------
    >>> import raydistill as rd
    >>> generator = rd.open("runs/demo/generator-0123456789ab")  # doctest: +SKIP
    >>> conditions = generator.encoding.encode(8, labels_N=np.zeros(8, int))  # doctest: +SKIP
    """

    summary: GeneratorSummary

    kind = KIND
    _json = ((SUMMARY, GeneratorSummary),)
    _pictures = "previews/*.png"

    def _contents(self) -> str:
        of = self.summary
        return f"{of.num_parameters} parameters, trained for {of.steps} steps, images {of.image_size} pixels wide"

    @property
    def layout(self) -> ConditionLayout:
        """Return the groups of a condition."""
        return self.summary.encoding.layout

    @property
    def encoding(self) -> ConditionEncoding:
        """Return how properties of galaxies become conditions."""
        return self.summary.encoding

    @property
    def image_size(self) -> int:
        """Return the side of the pictures in pixels."""
        return self.summary.image_size

    @property
    def class_names(self) -> list[str]:
        """Return the class names; the index is the label."""
        return list(self.summary.class_names)

    @cached_property
    def tree(self) -> DecisionTree:
        """Return the questions that the group "votes" answers."""
        return TREES[self.summary.tree or GZ2.name]

    def load(self) -> Generator:
        """Return the generator with averaged parameters, on the CPU and ready to sample.

        Raises
        ------
        ArtifactCorrupt
            The file of the parameters is damaged, or does not fit the architecture.
        """
        generator = build_generator(self.summary.model, self.layout, self.image_size)
        tensors, _ = read_tensors(self.folder, MODEL)
        try:
            generator.load_state_dict(tensors)
        except RuntimeError as error:
            what = f"'{MODEL}' does not fit the architecture"
            raise ArtifactCorrupt(what, self.folder.uri, "train the generator again") from error
        return generator.eval().requires_grad_(False)

    def history(self) -> pa.Table:
        """Return the training, in the columns of `HISTORY_SCHEMA`."""
        return read_table(self.folder, HISTORY)

    def validation(self) -> pa.Table:
        """Return a row per preview, in the columns of `VALIDATION_SCHEMA`."""
        return read_table(self.folder, VALIDATION)


def write_model(folder: Folder, generator: Generator) -> None:
    """Write the parameters and the statistics of a generator."""
    tensors: dict[str, torch.Tensor] = dict(generator.state_dict())
    write_tensors(folder, MODEL, tensors, {"kind": KIND})
