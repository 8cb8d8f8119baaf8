"""Define `EncoderArtifact`: a network that describes pictures by features.

- `encoder.safetensors`: the parameters, of a training their moving average without the projector;
  or `encoder.onnx`, or `embeddings.arrow` with a row {object_id, features} per object.
- `encoder.json`: the pictures it was trained on, their normalisation, and the training.
- `history.parquet`: loss and learning rate during the training.
- `validation.parquet`: effective rank of the features, and balanced accuracy of a linear head.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.manifest import Manifest
from raydistill.artifacts.records import Record
from raydistill.artifacts.tables import read_table
from raydistill.artifacts.tensors import read_tensors
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible, ConfigError
from raydistill.imports import import_extra
from raydistill.learning.architectures import Architecture
from raydistill.learning.encoders import Encoder, Renormalise
from raydistill.learning.networks import Network, build_network, embedding
from raydistill.learning.normalise import AnyNormalisation, Normalisation
from raydistill.log import get_logger
from raydistill.stages.experts.classify.classifier import read_architecture
from raydistill.storage import Folder

log = get_logger(__name__)

KIND = kinds.ENCODER
MODEL, SUMMARY = "encoder.safetensors", "encoder.json"
ONNX, TABLE = "encoder.onnx", "embeddings.arrow"
HISTORY, VALIDATION = "history.parquet", "validation.parquet"
BATCH = 64  # pictures at once; another number may change the last bits
PIXELS = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # of pictures in [0, 1]
EXTRA = "run pip install 'raydistill[onnx]'"

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
class EncoderSummary(Record):
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
        Number of training pictures, or of rows of a table; 0 if unknown.
    num_parameters
        Number of parameters.
    steps, batch_size
        Steps of the training, and pictures per step.
    source
        "trained", or the kind of `pretrain.source`.
    input_size
        Side in pixels to which pictures are resized for the network; None: they keep their size.
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
    source: str = "trained"
    input_size: int | None = None

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
    >>> encoder.validation().to_pandas().balanced_accuracy  # doctest: +SKIP
    """

    summary: EncoderSummary

    kind = KIND
    _json = ((SUMMARY, EncoderSummary),)
    _pictures = "history.png"

    def _contents(self) -> str:
        of = self.summary
        if of.source == "embeddings":
            return f"{of.num_features} features of each of {of.num_images} objects"
        trained = f"trained for {of.steps} steps" if of.source == "trained" else f"given ({of.source})"
        return f"{of.num_features} features of pictures {of.image_size} pixels wide, {trained}"

    def architecture(self, networks: Sequence[Architecture] = ()) -> Architecture:
        """Return the architecture.

        Custom code is imported if one of `networks` has its factory.

        Raises as `read_architecture`.
        """
        config = self.manifest.config
        stored = config.get("pretrain", config).get("network")
        trust = "if you trust this code, name it as pretrain.network"
        return read_architecture(stored, self.folder.uri, networks, trust)

    def encoder(
        self, images_NCHW: Tensor, normalisation: AnyNormalisation, networks: Sequence[Architecture] = ()
    ) -> Encoder:
        """Return the frozen encoder, its features standardised on these images.

        Parameters
        ----------
        images_NCHW
            Real images, normalised.
        normalisation
            Their normalisation; not a whitening.
        networks
            Networks whose code the user names.

        Raises
        ------
        ArtifactIncompatible
            The images have another size, or are whitened; or the encoder has no gradient.
        ArtifactCorrupt
            The file of the parameters is damaged, or does not fit the architecture.
        """
        where, of = self.folder.uri, self.summary
        self.require_gradient()
        self.require_size(images_NCHW.shape[-1])
        if not isinstance(normalisation, Normalisation):
            raise ArtifactIncompatible("it cannot read whitened pictures", where, "set curate.whitening=null")
        network, theta_P = read_network(self.folder, of, self.architecture(networks))
        convert = Renormalise(normalisation, of.normalisation, of.input_size)
        return Encoder.fit(network, theta_P.to(images_NCHW), images_NCHW, convert)

    def require_size(self, image_size: int) -> None:
        """Raise ArtifactIncompatible for pictures of another size [px]."""
        own = self.summary.image_size
        if image_size != own:
            what = f"its pictures have {own} px, these have {image_size}"
            raise ArtifactIncompatible(what, self.folder.uri, f"set curate.image_size={own}")

    def warn_of_other_set(self, curated: Manifest, who: str) -> None:
        """Warn if it was trained on another curated set than this one."""
        if self.summary.source == "trained" and self.manifest.parents["curated"].identity != curated.identity:
            what = "%s: %s was trained on another curated set, which may hold test galaxies of this one"
            log.warning(what, who, self.folder.shown)

    def require_gradient(self) -> None:
        """Raise ArtifactIncompatible for an encoder for which no image can be distilled."""
        if self.summary.source in ("onnx", "embeddings"):
            what = f"an encoder of the kind '{self.summary.source}' has no gradient, which images are distilled with"
            fix = "take an encoder that is trained here, or given as weights"
            raise ArtifactIncompatible(what, self.folder.uri, fix)

    def features(self, images_NHWC: np.ndarray | Tensor) -> Tensor:
        """Return the features float32 [N, F] of uint8 pictures.

        They are prepared as the pictures of the encoder were.

        ArtifactIncompatible for a table of features.
        """
        if self.summary.source == "embeddings":
            raise no_picture(self.folder.uri)
        architecture = None if self.summary.source == "onnx" else self.architecture()
        return EncoderDescriber(self.folder.uri, self.summary, architecture).features(images_NHWC)

    def history(self) -> pa.Table:
        """Return the training, in the columns of `HISTORY_SCHEMA`."""
        return read_table(self.folder, HISTORY)

    def validation(self) -> pa.Table:
        """Return a row per measurement, in the columns of `VALIDATION_SCHEMA`."""
        return read_table(self.folder, VALIDATION)


def no_picture(where: str) -> ArtifactIncompatible:
    """Return the error of a table of features that is asked for those of pictures."""
    what = "a table of features describes the objects that it lists, and no synthetic picture"
    return ArtifactIncompatible(what, where, "set features to experts, or to an encoder with a network")


def read_network(folder: Folder, summary: EncoderSummary, architecture: Architecture) -> tuple[Network, Tensor]:
    """Return a network without its last linear layer, and its parameters float32 [P].

    ArtifactCorrupt if the file of the parameters is damaged, or does not fit the architecture.
    """
    network = embedding(build_network(architecture, 2, summary.input_size or summary.image_size))
    tensors, _ = read_tensors(folder, MODEL)
    try:
        theta_P = network.layout.flatten(tensors)
        network.layout.split(theta_P)
    except (KeyError, RuntimeError) as error:
        what = f"'{MODEL}' does not fit the architecture"
        raise ArtifactCorrupt(what, folder.uri, "make the encoder again") from error
    return network, theta_P


@dataclass(frozen=True)
class EncoderDescriber:
    """The features of an encoder, as its network returns them.

    Parameters
    ----------
    uri
        Folder of the encoder's files.
    summary
        Its pictures.
    architecture
        Of its network; None: it is an ONNX file.
    device
        Of the computation.
    """

    uri: str
    summary: EncoderSummary
    architecture: Architecture | None
    device: str = "cpu"

    @cached_property
    def _function(self) -> Callable[[Tensor], Tensor]:
        folder = Folder(self.uri)
        prepare = Renormalise(PIXELS, self.summary.normalisation, self.summary.input_size)
        if self.architecture is None:
            run = onnx_function(folder.read(ONNX), self.uri)
            return lambda images_BCHW: run(prepare(images_BCHW))
        network, theta_P = read_network(folder, self.summary, self.architecture)
        theta_P = theta_P.to(self.device)
        return lambda images_BCHW: network(theta_P, prepare(images_BCHW.to(self.device))).flatten(1).cpu()

    @torch.inference_mode()
    def features(self, images_NHWC: np.ndarray | Tensor) -> Tensor:
        """Return the features float32 [N, F] of uint8 pictures."""
        batches = torch.as_tensor(images_NHWC).split(BATCH)
        return torch.cat([self._function(batch.permute(0, 3, 1, 2).float() / 255) for batch in batches])

    def __getstate__(self) -> dict[str, object]:
        """Return the fields alone: another process reads the parameters itself."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def onnx_function(content: bytes, where: str) -> Callable[[Tensor], Tensor]:
    """Return an ONNX file's function of images [B, C, H, W]: features [B, F].

    Raises
    ------
    ConfigError
        The package onnxruntime is not installed, or cannot run this file.
    """
    what, kind = "the package onnxruntime is not installed", "pretrain.source.kind=onnx"
    onnxruntime = import_extra("onnxruntime", what, kind, EXTRA)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # Weights outside of the file would be read from the working directory, and would not be copied.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes of errors are not public
        if "External data path" in str(error):
            what, fix = "its weights are in another file", "export it with the weights inside (external_data=False)"
            raise ConfigError(what, where, fix) from error
        what = f"onnxruntime cannot read this file ({str(error).splitlines()[0][:200]})"
        raise ConfigError(what, where, "give an ONNX file that takes pictures [N, 3, S, S]") from error
    if len(session.get_inputs()) != 1:
        what = f"the ONNX file has {len(session.get_inputs())} inputs in place of one"
        raise ConfigError(what, where, "give an ONNX file that takes pictures [N, 3, S, S]")
    (given,) = session.get_inputs()
    most = 1 if given.shape[:1] == [1] else None  # pictures at once; many files are exported for a single one

    def run(images_BCHW: Tensor) -> Tensor:
        return torch.cat([run_batch(part) for part in images_BCHW.split(most or len(images_BCHW))])

    def run_batch(images_BCHW: Tensor) -> Tensor:
        try:
            output = np.asarray(session.run(None, {given.name: images_BCHW.numpy()})[0], np.float32)
        except Exception as error:
            what = f"the ONNX file cannot take pictures {list(images_BCHW.shape)} ({str(error).splitlines()[0][:200]})"
            fix = f"set pretrain.source.input_size; the file expects {given.shape}"
            raise ConfigError(what, where, fix) from error
        if output.ndim < 2 or len(output) != len(images_BCHW):
            what = f"the ONNX file returns an array {list(output.shape)} for {len(images_BCHW)} pictures"
            raise ConfigError(what, where, "give one that returns a row of features for each picture")
        return torch.from_numpy(output).flatten(1)

    return run
