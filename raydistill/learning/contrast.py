r"""Train an encoder without labels: two views of a picture get similar projections.

The views, drawn by `SkyViews`, show what does not change a galaxy's kind: its orientation and
handedness, its size in the frame, the gain of each band, the point spread function, noise and a
neighbour. The random numbers of a shard are functions of (seed, step, shard) alone, so any process
may compute it (`learning.sharded`).

Shapes: B pictures of a shard, F features, D size of a projection.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raydistill.learning.architectures import ClassifierArchitecture
from raydistill.learning.networks import build_network, embedding
from raydistill.learning.normalise import Normalisation
from raydistill.learning.options import ContrastiveTraining, SkyViews
from raydistill.learning.sharded import Trainable, TrainingState
from raydistill.seeding import generator as seeded

BINOMIAL = (0.25, 0.5, 0.25)  # the blur: three pixels each way
FAR = (0.3, 0.5)  # distance of a neighbour's centre from the middle, in sides
VICREG = (25.0, 25.0, 1.0)  # weights of invariance, variance and covariance in the paper
SMALLEST_VARIANCE = 1e-4
DINO = (0.1, 0.04)  # temperatures of student and teacher in the paper
SINKHORN = 3  # iterations, as in DINOv2


class Views(NamedTuple):
    """The random numbers of B views."""

    maps_B23: Tensor  # from output to input, as `affine_grid`
    gain_B3: Tensor
    blur_B: Tensor
    noise_B: Tensor
    noise_seed: int
    neighbour_B: Tensor  # bool
    shift_B2: Tensor  # of the neighbour, in sides


def draw_views(views: SkyViews, count: int, g: torch.Generator) -> Views:
    """Draw the random numbers of some views, on the CPU."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=g)

    angle, side = uniform(0, 2 * math.pi), uniform(*views.zoom)
    mirror = torch.where(torch.rand(count, generator=g) < 0.5, -1.0, 1.0)
    cos, sin, zero = side * angle.cos(), side * angle.sin(), torch.zeros(count)
    maps = torch.stack([torch.stack([mirror * cos, -sin, zero], 1), torch.stack([mirror * sin, cos, zero], 1)], 1)
    place, distance = uniform(0, 2 * math.pi), uniform(*FAR)
    shift = torch.stack([distance * place.cos(), distance * place.sin()], dim=1)
    return Views(
        maps, 1 + uniform(-views.gain, views.gain, 3), uniform(0, views.blur), uniform(0, views.noise),
        int(torch.randint(2**31, (1,), generator=g)), torch.rand(count, generator=g) < views.neighbours, shift,
    )  # fmt: skip


def show(images_BCHW: Tensor, views: Views) -> Tensor:
    """Return the views of pictures in [0, 1]; values may lie a little outside it."""
    device = images_BCHW.device
    if bool(views.neighbour_B.any()):
        images_BCHW = _with_neighbours(images_BCHW, views)
    grid = F.affine_grid(views.maps_B23.to(images_BCHW), list(images_BCHW.shape), align_corners=False)
    seen = F.grid_sample(images_BCHW, grid, align_corners=False, padding_mode="border")
    seen = seen.lerp(blurred(seen), views.blur_B.to(device)[:, None, None, None])
    noise = torch.randn(seen.shape, generator=seeded(views.noise_seed, "noise")).to(device)
    return seen * views.gain_B3.to(device)[..., None, None] + views.noise_B.to(device)[:, None, None, None] * noise


def blurred(images_BCHW: Tensor) -> Tensor:
    """Return pictures blurred by `BINOMIAL` each way."""
    kernel, channels = torch.tensor(BINOMIAL).to(images_BCHW), images_BCHW.shape[1]
    weights = torch.outer(kernel, kernel).expand(channels, 1, 3, 3)
    return F.conv2d(F.pad(images_BCHW, (1, 1, 1, 1), mode="replicate"), weights, groups=channels)


def _with_neighbours(images_BCHW: Tensor, views: Views) -> Tensor:
    """Return pictures, some with another galaxy at their edge."""
    side = images_BCHW.shape[-1]
    others = images_BCHW.roll(1, dims=0)
    shifted = images_BCHW.clone()
    for row in views.neighbour_B.nonzero()[:, 0].tolist():
        dx, dy = (int(value) for value in (views.shift_B2[row] * side).round())
        moved = F.pad(others[row], (dx, -dx, dy, -dy))  # the rest lies outside
        shifted[row] = torch.maximum(shifted[row], moved)
    return shifted


class ContrastiveModel(Trainable):
    """A backbone without its last layer, and a projector for the training alone.

    Parameters
    ----------
    architecture
        The network, whose last linear layer is replaced by the projector.
    image_size
        Side of the pictures in pixels.
    projection
        Size of the projections.
    normalisation
        Of the pictures.
    seed
        Of the initial parameters.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: ClassifierArchitecture,
        image_size: int,
        projection: int,
        normalisation: Normalisation,
        seed: int,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.backbone = embedding(build_network(architecture, 2, image_size)).make()
            with torch.no_grad():
                features = self.backbone(torch.zeros(2, 3, image_size, image_size)).flatten(1).shape[1]
            self.projector = nn.Sequential(
                nn.Linear(features, features), nn.GELU(), nn.Linear(features, projection)
            )  # fmt: skip
        for name, values in zip(("mean", "std"), normalisation, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None])

    def features(self, images_BCHW: Tensor) -> Tensor:
        """Return the features [B, F] of pictures in [0, 1]."""
        features: Tensor = self.backbone((images_BCHW - self.mean) / self.std).flatten(1)
        return features

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return the projections [B, D] of pictures in [0, 1]."""
        projections: Tensor = self.projector(self.features(images_BCHW))
        return projections


def init_training(model: ContrastiveModel, training: ContrastiveTraining) -> TrainingState[ContrastiveModel]:
    """Return the initial state, which holds `model` and changes it in place."""
    return TrainingState(model, training, "pretrain")


def shard_gradient(
    state: TrainingState[ContrastiveModel], images_BHWC: Tensor, training: ContrastiveTraining, seed: int, shard: int
) -> tuple[Tensor, Tensor]:
    """Return the gradient [P] and the loss of the uint8 pictures of one shard.

    The pictures are compared within the shard. The teacher of "dino" is the moving average.
    """
    model = state.model
    model.train()
    g = seeded(seed, "shard", state.step, shard)
    images = images_BHWC.to(model.mean.device).permute(0, 3, 1, 2).float() / 255
    first, second = (show(images, draw_views(training.views, len(images), g)) for _ in range(2))
    parameters = [parameter for _, parameter in model.trained()]
    with torch.autocast(images.device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
        of_first, of_second = model(torch.cat([first, second])).float().chunk(2)
        if training.loss == "simclr":
            loss = nt_xent(of_first, of_second, training.temperature)
        elif training.loss == "vicreg":
            loss = vicreg(of_first, of_second)
        else:
            targets = state.averaged()(torch.cat([first, second])).float().chunk(2)
            loss = (dino(of_first, targets[1]) + dino(of_second, targets[0])) / 2
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return torch.cat([part.flatten() for part in gradients]), loss.detach()


def nt_xent(first_BD: Tensor, second_BD: Tensor, temperature: float) -> Tensor:
    r"""Return the temperature-scaled cross entropy of Chen et al. 2020 (eq. 1).

    Of 2B projections z on the unit sphere, the positive of each is its other view:

        L = - mean_i log (exp(z_i . z_j(i) / t) / sum_{k != i} exp(z_i . z_k / t))
    """
    z = F.normalize(torch.cat([first_BD, second_BD]), dim=1)
    count = len(first_BD)
    own = torch.eye(2 * count, dtype=torch.bool, device=z.device)
    similarity = (z @ z.T / temperature).masked_fill(own, -torch.inf)
    positive = torch.cat([torch.arange(count, 2 * count), torch.arange(count)]).to(z.device)
    return F.cross_entropy(similarity, positive)


def vicreg(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    r"""Return the loss of Bardes et al. 2022, eq. 6."""
    invariance, variance, covariance = VICREG
    loss = invariance * F.mse_loss(first_BD, second_BD)
    for z in (first_BD, second_BD):
        centred = z - z.mean(dim=0)
        deviation = (z.var(dim=0) + SMALLEST_VARIANCE).sqrt()
        loss = loss + variance * F.relu(1 - deviation).mean() / 2
        matrix = centred.T @ centred / (len(z) - 1)
        off_diagonal = matrix.square().sum() - matrix.diagonal().square().sum()
        loss = loss + covariance * off_diagonal / z.shape[1]
    return loss


def dino(student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
    r"""Return the loss of Caron et al. 2021 (eq. 1), from one view to another.

        L = - mean_i sum_d q_id log softmax_d (s_i / t_s)

    of unit projections s of the student. The teacher's q are exp (t_i / t_t), centred as in DINOv2
    (Oquab et al. 2023, section 4): rows and columns are scaled in turn, so that all D outputs are
    used equally often. There are two views, and no smaller crops.
    """
    of_student, of_teacher = DINO
    q = torch.exp(F.normalize(teacher_BD, dim=1) / of_teacher)
    for _ in range(SINKHORN):
        q = q / q.sum(dim=0)
        q = q / q.sum(dim=1, keepdim=True)
    return F.cross_entropy(F.normalize(student_BD, dim=1) / of_student, q)


def effective_rank(features_NF: Tensor) -> float:
    """Return how many features are independent.

    It is the exponential of the entropy of the normalised singular values (Roy & Vetterli 2007): 1
    for features that have collapsed onto a line, and F for isotropic ones.
    """
    values = torch.linalg.svdvals(features_NF.double() - features_NF.double().mean(dim=0))
    shares = values / values.sum().clamp_min(1e-300)
    return float(torch.exp(-(shares * shares.clamp_min(1e-300).log()).sum()))
