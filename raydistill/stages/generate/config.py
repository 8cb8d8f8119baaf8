"""Define the part of a config about generators."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import PositiveInt

from raydistill.config.kinds import BY_KIND, infer_kind
from raydistill.diffusion.network_options import Network, StableDiffusion, UNet
from raydistill.diffusion.options import GeneratorTraining, Group, Model, PixelSpace, Sampling, Space
from raydistill.diffusion.processes import Process, RectifiedFlow


@dataclass(frozen=True)
class GeneratorModel(Model):
    """Set the architecture of a generator.

    Each kind of network has its own space: "unet" needs "pixels", "mlp" needs "components", and
    "stable-diffusion" needs "latents" and its own process.

    Parameters
    ----------
    network
        The network.
    process
        How pictures turn into noise, and what the network predicts.
    space
        The numbers in which the network computes.
    """

    # Declared again to be chosen by kind; the defaults are those of `Model`.
    network: Annotated[Network, BY_KIND, infer_kind(Network)] = UNet()
    process: Annotated[Process, BY_KIND, infer_kind(Process)] = RectifiedFlow()
    space: Annotated[Space, BY_KIND, infer_kind(Space)] = PixelSpace()


@dataclass(frozen=True)
class Generate:
    """Set the generator of `raydistill generate`.

    It is trained on the training split alone, so test galaxies stay unseen.

    Parameters
    ----------
    model
        Architecture.
    conditions
        Properties of a galaxy that the generator is given: any of `votes`, `class`, `size`,
        `colour` and `embedding`. An embedding consists of the features that `features` of the config
        names, so that a sample is a variation of a real galaxy. An empty list: none. None: votes,
        class and size, as far as the survey has them.
    embedding_size
        Principal components of the features that make an embedding.
    training
        Training.
    sampling
        Sampling of the previews, and the default of `raydistill sample`.
    preview_every
        Steps between two previews with their measurements on validation galaxies.
    preview_images
        Galaxies of a preview.
    record_every
        Steps between two records of the training loss.
    extra_sets
        Paths of further curated sets whose training pictures are used too. They need the image size,
        crop and alignment of the survey's own set. A condition that a picture lacks is unknown.
        Galaxies of the own validation and test splits are left out.
    seed
        Root of the training's random numbers, so that another value gives another generator of the
        same galaxies. None: `seed` of the config.
    """

    model: GeneratorModel = field(default_factory=GeneratorModel)
    conditions: tuple[Group, ...] | None = None
    embedding_size: PositiveInt = 16
    training: GeneratorTraining = field(default_factory=GeneratorTraining)
    sampling: Sampling = field(default_factory=Sampling)
    preview_every: PositiveInt = 500
    preview_images: PositiveInt = 32
    record_every: PositiveInt = 50
    extra_sets: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.conditions and len(set(self.conditions)) < len(self.conditions):
            raise ValueError(f"conditions must not name one twice, got {', '.join(self.conditions)}")
        if len(set(self.extra_sets)) < len(self.extra_sets):
            raise ValueError(f"extra_sets must not name one twice, got {', '.join(self.extra_sets)}")

    @property
    def needs_features(self) -> bool:
        """Whether the conditions include embeddings, which are made of features."""
        return "embedding" in (self.conditions or ())

    def with_digest(self) -> Generate:
        """Return the same with the digest of pretrained weights, if there are any.

        Raises
        ------
        ArtifactMissing
            A file of the weights is missing.
        """
        network = self.model.network
        if not isinstance(network, StableDiffusion):
            return self
        return replace(self, model=replace(self.model, network=network.with_digest()))
