"""Define the hyper-parameters of matching, and the spaces of the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from raydistill.learning.architectures import ClassifierArchitecture
from raydistill.learning.augment import DSA, Augmentation
from raydistill.learning.checks import at_least, at_least_0_below_1, between_0_and_1, not_negative, positive

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

# Define the optimisers of images, rates and labels.

SMALLEST_GRADIENT = 1e-12  # smallest divisor: images of zeros have no gradient


@dataclass(frozen=True, kw_only=True)
class SGD:
    """SGD with momentum, the optimiser of the papers.

    Parameters
    ----------
    lr
        Learning rate. Matching gradients are small, so images need 100 to 10000. "auto" chooses it
        from the gradient on the initial images, see `Distiller.begin`; only `image_step` may be
        "auto".
    momentum
        Momentum, in [0, 1).
    """

    kind: Literal["sgd"] = "sgd"
    lr: float | Literal["auto"]
    momentum: float = 0.5

    def __post_init__(self) -> None:
        if self.lr != "auto":
            positive(self, "lr")
        at_least_0_below_1(momentum=self.momentum)

    def gradient_scale(self, norm: float) -> float:
        """Return the factor of a segment's gradients: 1."""
        return 1.0

    def build(self, parameters: list[Tensor]) -> Optimizer:
        """Return the optimiser; an automatic rate is 0 until `Distiller.begin` sets it."""
        from torch import optim

        return optim.SGD(parameters, lr=0.0 if self.lr == "auto" else self.lr, momentum=self.momentum)


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980).

    Parameters
    ----------
    lr
        Learning rate; for images in units of the channel's standard deviation.
    betas
        Decays of the first and the second moment, each in [0, 1).
    unit_gradients
        Divide the gradients of a segment by the norm of its image gradient. A rare gradient is 1000
        times larger; unnormalised it fills Adam's second moment and stalls the images for 1 / (1 -
        beta_2) iterations.
    """

    kind: Literal["adam"] = "adam"
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    unit_gradients: bool = True

    def __post_init__(self) -> None:
        positive(self, "lr")
        at_least_0_below_1(**{f"beta {number}": beta for number, beta in enumerate(self.betas, 1)})

    def gradient_scale(self, norm: float) -> float:
        """Return the factor of a segment's gradients, from its image gradient's norm."""
        return 1 / max(norm, SMALLEST_GRADIENT) if self.unit_gradients else 1.0

    def build(self, parameters: list[Tensor]) -> Optimizer:
        from torch import optim

        return optim.Adam(parameters, lr=self.lr, betas=self.betas)


Step = SGD | Adam


# Define the hyper-parameters of NCFM (`distillation.characteristic`).


@dataclass(frozen=True, kw_only=True)
class CharacteristicMatching:
    """Options of matching characteristic functions.

    Parameters
    ----------
    seed
        Seed of the initial images, batches, networks and frequencies.
    iterations
        Number of iterations; 20000 in the paper.
    batch_size
        Real images per class and iteration.
    lr
        Learning rate of Adam on the images, in standard deviations of a channel.
    num_frequencies
        F; 1024 to 4096 in the paper.
    amplitude
        a, the weight of amplitudes.
    frequency_lr
        Learning rate of Adam on the network s; 0: normal frequencies.
    num_networks, training_epochs
        Number of trained networks, and epochs of their training.
    """

    seed: int = 0
    iterations: int = 1000
    batch_size: int = 64
    lr: float = 0.01
    num_frequencies: int = 1024
    amplitude: float = 0.5
    frequency_lr: float = 0.001
    num_networks: int = 2
    training_epochs: int = 10

    def __post_init__(self) -> None:
        positive(self, "iterations", "batch_size", "lr", "num_frequencies", "num_networks", "training_epochs")
        not_negative(self, "frequency_lr")
        between_0_and_1(amplitude=self.amplitude)


# Define the hyper-parameters of matching gradients (`distillation.gradients`) and distributions.


@dataclass(frozen=True, kw_only=True)
class _AugmentedMatching:
    """Options of matching augmented images by SGD.

    Parameters
    ----------
    seed
        Seed of the initial images, batches and networks.
    iterations
        Number of steps of the images; 20000 in the paper of distribution matching.
    batch_size
        Real images per class and iteration; 256 in the papers.
    lr, momentum
        Of SGD on the images.
    augmentation
        Augmentation of real and synthetic images; it must be shared.
    """

    seed: int = 0
    iterations: int = 1000
    batch_size: int = 64
    lr: float
    momentum: float = 0.5
    augmentation: Augmentation = Augmentation(DSA, mode="single", shared=True)

    def __post_init__(self) -> None:
        positive(self, "iterations", "batch_size", "lr")
        at_least_0_below_1(momentum=self.momentum)
        if not self.augmentation.shared:
            raise ValueError("augmentation.shared must be true: real and synthetic images are augmented alike")


@dataclass(frozen=True, kw_only=True)
class GradientMatching(_AugmentedMatching):
    """Options of matching gradients.

    Parameters
    ----------
    steps_per_network
        Steps of the images with one network: 1 for one image per class in the paper, 10 for ten.
    network_epochs, network_lr, network_momentum, network_weight_decay
        Its training between them: 1 epoch for one image per class in the paper, 50 for ten.
    tiles
        Images a side of a stored image. More than 1 makes it IDC.
    """

    lr: float = 0.1
    steps_per_network: int = 1
    network_epochs: int = 1
    network_lr: float = 0.01
    network_momentum: float = 0.0
    network_weight_decay: float = 0.0
    tiles: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "steps_per_network", "network_epochs", "network_lr", "tiles")
        at_least_0_below_1(network_momentum=self.network_momentum)
        not_negative(self, "network_weight_decay")


@dataclass(frozen=True, kw_only=True)
class DistributionMatching(_AugmentedMatching):
    """Options of distribution matching.

    Parameters
    ----------
    lr
        Learning rate of SGD; the paper takes 1, and 10 for 50 images per class.
    """

    lr: float = 1.0


# Define the hyper-parameters of matching the outcome (`distillation.outcome`).


@dataclass(frozen=True, kw_only=True)
class OutcomeMatching:
    """Set the iterations that match the outcome in place of trajectories.

    Parameters
    ----------
    after
        Iterations of trajectory matching before them. The schedule does not stop the run.
    student_steps
        N, the number of steps through which the loss is differentiated.
    max_warmup
        The largest W.
    momentum
        Momentum of the student's SGD.
    student_lr
        Its initial learning rate; the logarithm is learned.
    batch_size
        Real images of a segment, equally many of each class on average.
    image_step
        Factor of the image step. The gradient of one fresh network on some real images is noisier
        than that of a segment.
    networks
        Architectures that take turns, each with a learning rate of its own. Empty: the experts'.
        Images that several architectures learn from suit others better.
    """

    after: int = 0
    student_steps: int = 20
    max_warmup: int = 100
    momentum: float = 0.9
    student_lr: float = 0.005
    batch_size: int = 200
    image_step: float = 1.0
    networks: tuple[ClassifierArchitecture, ...] = ()

    @property
    def num_lrs(self) -> int:
        """Return the number of learning rates: one for each architecture."""
        return max(1, len(self.networks))

    def __post_init__(self) -> None:
        positive(self, "student_steps", "student_lr", "batch_size", "image_step")
        at_least(0, after=self.after, max_warmup=self.max_warmup)
        at_least_0_below_1(momentum=self.momentum)


# Define the spaces of the images (`distillation.space`).


@dataclass(frozen=True)
class ImagePixels:
    """Optimise the pixels of the images."""

    kind: Literal["pixels"] = "pixels"


@dataclass(frozen=True)
class ImageComponents:
    """Optimise whitened principal components of the training images.

    Parameters
    ----------
    components
        Largest number of components. The initial images lose what lies beyond them.
    """

    kind: Literal["components"] = "components"
    components: int = 200

    def __post_init__(self) -> None:
        positive(self, "components")


@dataclass(frozen=True)
class ImagePyramid:
    """Optimise a pyramid of images of 1, 2, 4, … pixels a side.

    They are enlarged and added. Coarse structure moves faster than single pixels (Cazenavette et al. 2025, arXiv:2511.16674).

    Parameters
    ----------
    decorrelated
        Store colours whose values are uncorrelated over the training images, as in the paper.
    """

    kind: Literal["pyramid"] = "pyramid"
    decorrelated: bool = True


@dataclass(frozen=True)
class ImageGenerator:
    """Optimise noised states, which the generator of the run turns into images.

    Every image is then one that the generator draws (`diffusion.noised`).

    Parameters
    ----------
    steps
        Calls of the generator for an image.
    strength
        How much of an initial image is noise, in (0, 1]; 1: all of it.
    """

    kind: Literal["generator"] = "generator"
    steps: int = 4
    strength: float = 0.5

    def __post_init__(self) -> None:
        positive(self, "steps", "strength")
        if self.strength > 1:
            raise ValueError(f"strength must be at most 1, got {self.strength:g}")


ImageSpace = ImagePixels | ImageComponents | ImagePyramid | ImageGenerator


# Define what is matched (`distillation.distiller`, `distillation.heads`).


@dataclass(frozen=True)
class MatchTrajectories:
    """Match the experts' trajectories: the images train a network from scratch.

    Parameters
    ----------
    shrinkage
        Weight of the mean squared norm of the stored values, for `space: components`, beside the
        loss of a segment after `image_step.unit_gradients`. It draws the images towards the mean
        image.
    """

    kind: Literal["trajectories"] = "trajectories"
    shrinkage: float = 0.0

    def __post_init__(self) -> None:
        not_negative(self, "shrinkage")


@dataclass(frozen=True, kw_only=True)
class RidgeHead:
    """Match the outcome of a ridge head on frozen features (`distillation.heads`).

    The images train a linear classifier on these features, and no network from scratch. A run takes
    seconds to minutes.

    Parameters
    ----------
    matching
        "outcome": the loss of the head in closed form. "gradient": linear gradient matching
        (Cazenavette et al. 2025, arXiv:2511.16674), the cosine distance of the gradients that real
        and synthetic images give a random head.
    regularisation
        lambda of the head.
    draws
        For matching=gradient: random augmentations of each synthetic image in an iteration, by
        `augmentation`; 10 in the paper. 0: all its symmetric versions.
    per_class
        Real images of each class in an iteration.
    shrinkage
        Weight of the mean squared norm of the stored values, for `space: components`. It draws the
        images towards the mean image.
    """

    kind: Literal["ridge"] = "ridge"
    matching: Literal["outcome", "gradient"] = "outcome"
    regularisation: float = 0.1
    draws: int = 0
    per_class: int = 200
    shrinkage: float = 0.001

    def __post_init__(self) -> None:
        positive(self, "regularisation", "per_class")
        not_negative(self, "shrinkage", "draws")
        if self.draws and self.matching != "gradient":
            raise ValueError("draws goes with matching: gradient")


Objective = MatchTrajectories | RidgeHead
