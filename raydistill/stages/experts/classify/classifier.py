"""Classify pictures with trained networks, without a config and without Ray.

The networks are stored with all they need:

- `networks.safetensors`: `parameters` (float32 [E, P]). Its header holds the architecture, the
  class names and the preparation of the pictures.
- `whitening.safetensors`: the whitening, where there is one.

Shape letters: E networks, P parameters, N pictures, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from raydistill.artifacts.tensors import read_normalisation, read_tensors, write_normalisation, write_tensors
from raydistill.config.kinds import BY_KIND
from raydistill.config.tree import plain
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible, CatalogError, ConfigError
from raydistill.galaxies.pictures.files import Source
from raydistill.galaxies.pictures.images import RejectedImage
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.learning.architectures import AnswerNetwork, Architecture, Custom
from raydistill.learning.calibration import Calibration
from raydistill.learning.ensemble import Ensemble
from raydistill.learning.networks import Network, build_network, shared_network
from raydistill.learning.normalise import AnyNormalisation
from raydistill.learning.timm_networks import Timm
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.storage import Folder
from raydistill.surveys.survey import Preparation, prepare_original, prepare_picture

if TYPE_CHECKING:
    import pandas as pd

    from raydistill.pipeline.plan import Plan


NETWORKS = "networks.safetensors"
MODEL_CODE = Path(__file__).with_name("model_code.py")  # makes a saved classifier a model of MLflow
TRUST = "if you trust this code, load the model with model_config={'custom': 'MODULE:NAME'}"
INPUTS = "give uint8 [N, H, W, 3], or a table with a column 'path' (files) or 'image' (their bytes)"


@dataclass(frozen=True)
class PictureClassifier:
    """Networks of one architecture, and how pictures are prepared for them.

    Parameters
    ----------
    architecture
        The architecture.
    class_names
        Names of the K classes.
    normalisation
        Of the images on which the networks were trained.
    preparation
        Checks, crop, alignment and size of the pictures.
    value_range
        Display range of picture files of more than 8 bits, see `FolderImages`.
    fit
        Treatment of pictures that are not square, see `FolderImages`.
    parameters_EP
        float32, the parameters of each network.
    calibration
        Class prior and temperature of the probabilities.
    """

    architecture: Architecture
    class_names: tuple[str, ...]
    normalisation: AnyNormalisation
    preparation: Preparation
    value_range: Any
    fit: Any
    parameters_EP: Tensor
    calibration: Calibration

    @staticmethod
    def of_run(
        plan: Plan, architecture: Architecture, curated: CuratedSet, normalisation: AnyNormalisation,
        parameters_P: Sequence[Tensor], calibration: Calibration | None = None,
    ) -> PictureClassifier:  # fmt: skip
        """Return networks that read pictures as the curated set of a run did.

        Parameters
        ----------
        plan
            How the curated set was made, and the pictures of its survey.
        architecture
            Of the networks.
        curated
            The curated set.
        normalisation
            Of the images on which the networks were trained.
        parameters_P
            float32 [P] of each network.
        calibration
            Of their probabilities; None: as the networks give them.
        """
        images = plan.pictures()
        levels = curated.summary.levels.get("value_range", getattr(images, "value_range", "full"))
        value_range = "full" if levels == "auto" else tuple(levels) if isinstance(levels, list) else levels
        return PictureClassifier(
            architecture, tuple(curated.class_names), normalisation, Preparation.of(plan.config.curate, images),
            value_range, images.fit, torch.stack(list(parameters_P)), calibration or Calibration.none(curated.num_classes),
        )  # fmt: skip

    def save(self, folder: Folder) -> None:
        """Write the files of the classifier."""
        info = {
            "architecture": plain(self.architecture),
            "class_names": list(self.class_names),
            "preparation": asdict(self.preparation),
            "value_range": self.value_range,
            "fit": self.fit,
            "calibration": asdict(self.calibration),
        }
        inverse = write_normalisation(folder, self.normalisation)
        write_tensors(folder, NETWORKS, {"parameters": self.parameters_EP}, {**info, **inverse})

    @staticmethod
    def load(folder: Folder, networks: Sequence[Architecture] = ()) -> PictureClassifier:
        """Read the files of a classifier.

        A custom network is built only if one of `networks` has the same factory.
        """
        tensors, info = read_tensors(folder, NETWORKS)
        architecture = read_architecture(info["architecture"], folder.uri, networks, TRUST)
        value_range = tuple(info["value_range"]) if isinstance(info["value_range"], list) else info["value_range"]
        return PictureClassifier(
            architecture, tuple(info["class_names"]), read_normalisation(folder, info), Preparation(**info["preparation"]),
            value_range, info["fit"], tensors["parameters"], TypeAdapter(Calibration).validate_python(info["calibration"]),
        )  # fmt: skip

    def predict(self, pictures: np.ndarray | pd.DataFrame) -> pd.DataFrame:
        """Return each picture's class, and mean class probabilities over the networks.

        Parameters
        ----------
        pictures
            uint8 [N, H, W, 3], row 0 at the top. Pictures of the networks' own size are taken as
            they are, as those of a curated set are. Others are checked, cropped, turned and resized
            as the survey's pictures were. Or a table with a column `path` or `image` (bytes) of
            picture files, which are always prepared so.

        Returns
        -------
        pandas.DataFrame
            `predicted_class`, `reason` why a file could not be used (else None), and a column of
            probabilities per class, NaN where there is a reason.

        Raises
        ------
        CatalogError
            The input has another form, or a picture in an array cannot be used.
        """
        import pandas as pd

        if isinstance(pictures, pd.DataFrame):
            index = pictures.index
            column = next((name for name in ("path", "image") if name in pictures), None)
            if column is None:
                raise CatalogError(f"the table has the columns {list(pictures.columns)}", "pictures", INPUTS)
            prepared, reasons = self._prepare_files(list(pictures[column]))
        else:
            prepared = self._prepare_arrays(np.asarray(pictures))
            index, reasons = pd.RangeIndex(len(prepared)), [None] * len(prepared)
        usable = np.array([reason is None for reason in reasons], bool)
        probabilities_NK = np.full((len(reasons), len(self.class_names)), np.nan, np.float32)
        if usable.any():
            probabilities_NK[usable] = self.probabilities(torch.from_numpy(np.stack(prepared))).numpy()
        names = [self.class_names[k] if ok else None for k, ok in zip(_argmax(probabilities_NK), usable, strict=True)]
        frame = pd.DataFrame({"predicted_class": names, "reason": reasons}, dtype=object)
        probabilities = pd.DataFrame(probabilities_NK, columns=list(self.class_names))
        return pd.concat([frame, probabilities], axis=1).set_axis(index)

    def probabilities(self, images_NHWC: Tensor) -> Tensor:
        """Return calibrated class probabilities, float32 [N, K], of prepared pictures.

        The pictures are uint8 [N, H, W, 3].
        """
        network = shared_network(self.architecture, len(self.class_names), self.preparation.image_size)
        ensemble = Ensemble(network, list(self.parameters_EP), features=False)
        logits_NK = ensemble.predict(self.normalisation.apply(images_NHWC)).logits_NK
        return torch.from_numpy(self.calibration.apply(logits_NK.numpy())).float()

    def _prepare_arrays(self, pictures_NHWC: np.ndarray) -> list[np.ndarray]:
        if pictures_NHWC.dtype != np.uint8 or pictures_NHWC.ndim != 4 or pictures_NHWC.shape[-1] != 3:
            raise CatalogError(f"the array is {pictures_NHWC.dtype} {pictures_NHWC.shape}", "pictures", INPUTS)
        size = self.preparation.image_size
        if pictures_NHWC.shape[1:3] == (size, size):
            return list(pictures_NHWC)
        return [
            prepare_original(picture, f"picture {n}", self.fit, self.preparation)
            for n, picture in enumerate(pictures_NHWC)
        ]

    def _prepare_files(self, sources: Sequence[Source]) -> tuple[list[np.ndarray], list[str | None]]:
        """Return the usable prepared pictures, and the reason or None for each file."""
        images = FolderImages(root="", value_range=self.value_range, fit=self.fit)
        prepared: list[np.ndarray] = []
        reasons: list[str | None] = []
        for source in sources:
            try:
                prepared.append(prepare_picture(source, str(source)[:200], images, self.preparation))
                reasons.append(None)
            except RejectedImage as error:
                reasons.append(error.reason)
        return prepared, reasons


def _argmax(probabilities_NK: np.ndarray) -> np.ndarray:
    return np.nan_to_num(probabilities_NK, nan=-1.0).argmax(axis=1)


# Read the network of an artifact without running code that it names.
#
# The built-in networks are sizes. A `custom` network is a function of a module, so it is built only
# if a network of the user's own config names the same function. Files of weights are read for networks
# of the config alone: an artifact has the parameters.


TRUST_BY_NAME = "if you trust this code, name it in evaluate.other_networks"


def read_architecture(
    stored: Any, where: str, networks: Sequence[Architecture], trust: str = TRUST_BY_NAME
) -> Architecture:
    """Return the architecture that an artifact stores as plain values.

    Parameters
    ----------
    stored
        The values.
    where
        The artifact.
    networks
        The networks that the user names, see `Config.networks`.
    trust
        How to name the code, for an error message.

    Raises
    ------
    ArtifactCorrupt
        The values are not an architecture.
    ArtifactIncompatible
        It is custom, and no network of the user has its factory.
    """
    try:
        architecture: Architecture = TypeAdapter(Annotated[Architecture, BY_KIND]).validate_python(stored)
    except ValidationError as error:
        what = f"its network cannot be read ({error.errors()[0]['msg']})"
        raise ArtifactCorrupt(what, where, "make it again, or install the release that wrote it") from error
    network = architecture.base if isinstance(architecture, AnswerNetwork) else architecture
    if isinstance(network, Custom) and network.factory not in {n.factory for n in networks if isinstance(n, Custom)}:
        what = f"its network is the code '{network.factory}', which your config does not name"
        raise ArtifactIncompatible(what, where, trust)
    if isinstance(network, Timm) and network not in networks:
        fitted = network.without_weights()
        return replace(architecture, base=fitted) if isinstance(architecture, AnswerNetwork) else fitted
    return architecture


def expert_architecture(store: TrajectoryStore, networks: Sequence[Architecture]) -> Architecture:
    """Return the architecture of experts. Raises as `read_architecture`."""
    return read_architecture(store.manifest.config.get("network"), store.folder.uri, networks)


def expert_network(store: TrajectoryStore, curated: CuratedSet, networks: Sequence[Architecture] = ()) -> Network:
    """Return the network of the experts of a curated set.

    Raises
    ------
    ArtifactCorrupt, ArtifactIncompatible
        As `read_architecture`; the network cannot be built, or has other parameters.
    """
    architecture = expert_architecture(store, networks)
    try:
        network = build_network(architecture, curated.num_classes, curated.summary.image_size)
    except (ValueError, ConfigError) as error:
        raise ArtifactIncompatible(
            f"its network cannot be built ({error})", store.folder.uri, "train experts again"
        ) from error
    stored, built = store.layout.num_parameters, network.layout.num_parameters
    if stored != built:
        what = f"its experts have {stored} parameters, and their network {built}"
        raise ArtifactIncompatible(what, store.folder.uri, "train experts again")
    return network
