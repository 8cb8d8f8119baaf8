"""Define `EncoderArtifact`: a network that describes pictures by features.

- `encoder.safetensors`: the moving average of the parameters, without the projector.
- `encoder.json`: the pictures it was trained on, their normalisation, and the training.
- `history.parquet`: loss and learning rate during the training.
- `validation.parquet`: effective rank of the features, and balanced accuracy of a linear head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import pyarrow as pa
import torch
from torch import Tensor

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.manifest import Manifest
from raydistill.artifacts.records import read_json
from raydistill.artifacts.tables import read_table
from raydistill.artifacts.tensors import read_tensors
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible
from raydistill.learning.architectures import Architecture
from raydistill.learning.encoders import Encoder, Renormalise
from raydistill.learning.networks import build_network, embedding
from raydistill.learning.normalise import AnyNormalisation, Normalisation
from raydistill.stages.experts.classify.classifier import read_architecture
from raydistill.storage import Folder

KIND = kinds.ENCODER
MODEL, SUMMARY = "encoder.safetensors", "encoder.json"
HISTORY, VALIDATION = "history.parquet", "validation.parquet"

HISTORY_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("images", pa.int64()),  # training pictures used so far, with repetitions
        ("lr", pa.float64()),
        ("loss", pa.float64()),  # mean since the row before
    ]
)
VALIDATION_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("effective_rank", pa.float64()),  # of the features of validation pictures
        ("balanced_accuracy", pa.float64()),  # of a linear head on them; NaN without classes
    ]
)


@dataclass(frozen=True)
class EncoderSummary:
    """The contents of `encoder.json`.

    Attributes
    ----------
    survey, simulated
        Name of the survey in the config, and whether it was simulated.
    image_size, crop_fraction, aligned
        Of the pictures.
    mean_C, std_C
        Their normalisation.
    num_features
        Number of features.
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
    mean_C: tuple[float, ...]
    std_C: tuple[float, ...]
    num_features: int
    num_images: int
    num_parameters: int
    steps: int
    batch_size: int

    @property
    def normalisation(self) -> Normalisation:
        """Return the normalisation of the pictures."""
        return Normalisation(tuple(self.mean_C), tuple(self.std_C))


@dataclass(frozen=True, repr=False)
class EncoderArtifact(Displayed):
    """An opened encoder. Methods read its files when they are called.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    summary
        Pictures and training.

    Examples
    --------
    >>> import raydistill as rd
    >>> encoder = rd.open("runs/demo/encoder-0123456789ab")  # doctest: +SKIP
    >>> encoder.features(curated.load("test").images_NHWC).shape  # doctest: +SKIP
    torch.Size([900, 128])
    """

    summary: EncoderSummary

    _pictures = "history.png"

    kind = KIND

    @classmethod
    def _read(cls, folder: Folder, manifest: Manifest) -> Self:
        return cls(folder, manifest, read_json(folder, SUMMARY, EncoderSummary))

    def _contents(self) -> str:
        of = self.summary
        return f"{of.num_features} features of pictures {of.image_size} pixels wide, trained for {of.steps} steps"

    def architecture(self) -> Architecture:
        """Return the architecture; custom code is never imported.

        Raises as `read_architecture`.
        """
        stored = self.manifest.config.get("pretrain", {}).get("network")
        return read_architecture(stored, self.folder.uri, (), "custom encoders cannot be opened; train it again here")

    def encoder(self, images_NCHW: Tensor, normalisation: AnyNormalisation) -> Encoder:
        """Return the frozen encoder, its features standardised on these images.

        Parameters
        ----------
        images_NCHW
            Real images, normalised.
        normalisation
            Their normalisation; not a whitening.

        Raises
        ------
        ArtifactIncompatible
            The images have another size, or are whitened.
        ArtifactCorrupt
            The file of the parameters is damaged, or does not fit the architecture.
        """
        where, of = self.folder.uri, self.summary
        if images_NCHW.shape[-1] != of.image_size:
            what = f"its pictures have {of.image_size} px, these have {images_NCHW.shape[-1]}"
            raise ArtifactIncompatible(what, where, f"set curate.image_size={of.image_size}")
        if not isinstance(normalisation, Normalisation):
            raise ArtifactIncompatible("it cannot read whitened pictures", where, "set curate.zca=false")
        network = embedding(build_network(self.architecture(), 2, of.image_size))
        tensors, _ = read_tensors(self.folder, MODEL)
        try:
            theta_P = network.layout.flatten(tensors).to(images_NCHW)
            network.layout.split(theta_P)
        except (KeyError, RuntimeError) as error:
            what = f"'{MODEL}' does not fit the architecture"
            raise ArtifactCorrupt(what, where, "train the encoder again") from error
        return Encoder.fit(network, theta_P, images_NCHW, Renormalise(normalisation, of.normalisation))

    def features(self, images_NHWC: Tensor) -> Tensor:
        """Return the features float32 [N, F] of uint8 pictures, standardised on them."""
        images_NCHW = self.summary.normalisation.apply(torch.as_tensor(images_NHWC))
        encoder = self.encoder(images_NCHW, self.summary.normalisation)
        from raydistill.learning.encoders import features_of

        return features_of(encoder, images_NCHW)

    def history(self) -> pa.Table:
        """Return the training, in the columns of `HISTORY_SCHEMA`."""
        return read_table(self.folder, HISTORY)

    def validation(self) -> pa.Table:
        """Return a row per measurement, in the columns of `VALIDATION_SCHEMA`."""
        return read_table(self.folder, VALIDATION)
