r"""Distil images for a linear head on the features of frozen encoders.

In each iteration the images, in all their symmetric versions, give a ridge head in closed form, and
the head classifies a batch of real images (`learning.heads` states the head):

    L = mean_e mean_b CE(s_e F_e(x_b) W_e, y_b) + shrinkage mean_i |z_i|^2,
    W_e = ridge_head(F_e(A decode(z)), Y)

F_e are the standardised features of encoder e, A the symmetries and s_e a learned scale. The
gradient goes through the solve, so the outcome of the training is matched exactly. The closed form is
that of KIP (Nguyen et al. 2021, arXiv:2011.00050) with the kernel of the features.

Linear gradient matching (Cazenavette et al. 2025, arXiv:2511.16674; `matching: gradient`) aligns the
gradients that real and synthetic images give a random head W ~ N(0, 1 / F) instead:

    L = mean_e (1 - cos(dCE(F_e(x) W, y) / dW, dCE(F_e(A decode(z)) W, Y) / dW)) + shrinkage …

With `draws`, A are random augmentations in place of symmetries, as in the paper.

Shapes: S images, G symmetries, N real images, B of a batch, F features, K classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from raydistill.distillation.distiller import Record, load_optimiser, optimiser_tensors
from raydistill.distillation.divergence import check_finite
from raydistill.distillation.options import RidgeHead
from raydistill.distillation.outcome import RealImages
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.schedule import Decision
from raydistill.distillation.segments import OUTCOME
from raydistill.distillation.space import Space, StoredImages
from raydistill.learning.augment import GROUPS
from raydistill.learning.augmenting import labelled_orbit, orbit
from raydistill.learning.encoders import BATCH, Encoder, features_of
from raydistill.learning.heads import ridge_head
from raydistill.learning.normalise import one_hot
from raydistill.seeding import generator

FIRST_SCALE = 10.0  # of the head's scores, which lie near [-1, 1]
MOST_FEATURES = 2**26  # numbers kept of an encoder: 256 MB


class HeadResult(NamedTuple):
    """The loss of an iteration, and its gradients."""

    loss: Tensor
    d_stored: Tensor
    d_log_scales_E: Tensor


class HeadDistiller(StoredImages):
    """The state of one distillation for heads.

    Parameters
    ----------
    recipe
        Iterations, image step, augmentation (whose symmetries all images are seen in), and the
        objective, a `RidgeHead`. The rate of the image step falls to 0 as a cosine.
    encoders
        Frozen encoders, one or more.
    images_SCHW
        Initial synthetic images, normalised and sorted by class.
    targets_SK
        Their class probabilities.
    real
        Normalised real images with one-hot labels.
    seed
        Root of the random numbers.
    space
        Where the images are stored. None: pixels.

    Attributes
    ----------
    images, published_images
        The images [S, C, H, W] on which a head is trained, and those to publish: their moving
        average, if `recipe.ema` is set.

    Raises
    ------
    ValueError
        If the objective is another one, or there is no encoder.
    """

    def __init__(
        self,
        recipe: Recipe,
        encoders: Sequence[Encoder],
        images_SCHW: Tensor,
        targets_SK: Tensor,
        real: RealImages,
        seed: int,
        space: Space | None = None,
    ) -> None:
        if not isinstance(recipe.objective, RidgeHead):
            raise ValueError(f"recipe.objective is {recipe.objective.kind}: give a RidgeHead")
        if not encoders:
            raise ValueError("a head needs at least one encoder")
        super().__init__(recipe, images_SCHW, targets_SK, space)
        self._options, self.encoders, self._seed = recipe.objective, tuple(encoders), seed
        self._symmetries = recipe.augmentation.symmetries
        self._log_scales_E = torch.full((len(encoders),), math.log(FIRST_SCALE)).to(images_SCHW)
        self._optimiser = recipe.image_step.build([self.stored, self._log_scales_E])
        self.iteration = 0
        labels_N = real.targets_NK.argmax(dim=1)
        self._kept_N, self._features_ENGF = self._real_features(real)
        self._labels_N = labels_N[self._kept_N]
        present = self._labels_N.unique().tolist()
        self._members = [(self._labels_N == label).nonzero()[:, 0] for label in present]

    def _real_features(self, real: RealImages) -> tuple[Tensor, list[Tensor]]:
        """Return which real images are used, and their features [N, G, F] of each encoder."""
        versions, total = len(GROUPS[self._symmetries]), len(real.images_NCHW)
        largest = max(len(encoder.mean_F) for encoder in self.encoders)
        order_N = torch.randperm(total, generator=generator(self._seed, "real"))
        kept_N = order_N[: max(1, MOST_FEATURES // (versions * largest))].sort().values.to(real.images_NCHW.device)
        seen = [orbit(images, self._symmetries) for images in real.images_NCHW[kept_N].split(BATCH)]
        features = [torch.cat([features_of(encoder, images) for images in seen]) for encoder in self.encoders]
        return kept_N, [features_MF.view(len(kept_N), versions, -1) for features_MF in features]

    @property
    def finished(self) -> bool:
        """Return whether all iterations are done."""
        return self.iteration >= self.recipe.iterations

    @property
    def student_lrs(self) -> Tensor:
        """Return no rates: no student is trained."""
        return torch.empty(0)

    def targets(self) -> Tensor:
        """Return the target probabilities [S, K]."""
        return self.labels

    def heads(self, images_SCHW: Tensor) -> list[Tensor]:
        """Return the head [F, K] of each encoder, trained on all versions of the images."""
        seen, targets = labelled_orbit(images_SCHW, self.labels, self._symmetries)
        centred = targets - 1 / targets.shape[1]
        return [ridge_head(encoder(seen), centred, self._options.regularisation) for encoder in self.encoders]

    def loss(self, stored: Tensor, log_scales_E: Tensor, index_B: Tensor, version_B: Tensor) -> Tensor:
        """Return the loss on a batch of real images, each in one version."""
        match = self._outcomes if self._options.matching == "outcome" else self._gradients
        features_EBF = [features_NGF[index_B, version_B] for features_NGF in self._features_ENGF]
        losses = match(self._space.decode(stored), log_scales_E, features_EBF, self._labels_N[index_B])
        return torch.stack(losses).mean() + self._options.shrinkage * stored.flatten(1).square().sum(dim=1).mean()

    def _outcomes(
        self, images_SCHW: Tensor, log_scales_E: Tensor, features_EBF: list[Tensor], labels_B: Tensor
    ) -> list[Tensor]:
        """Return the loss of the head of each encoder."""
        scores = [
            features_BF @ head_FK for features_BF, head_FK in zip(features_EBF, self.heads(images_SCHW), strict=True)
        ]
        return [cross_entropy(log_scales_E[n].exp() * scores_BK, labels_B) for n, scores_BK in enumerate(scores)]

    def _gradients(self, images_SCHW: Tensor, _: Tensor, features_EBF: list[Tensor], labels_B: Tensor) -> list[Tensor]:
        """Return the cosine distance of a random head's gradients for each encoder."""
        losses, g = [], generator(self._seed, self.iteration, "head")
        if draws := self._options.draws:
            augmentation = self.recipe.augmentation
            seen, targets_MK = images_SCHW.repeat(draws, 1, 1, 1), self.labels.repeat(draws, 1)
            seen = augmentation.apply(seen, augmentation.sample(g, len(seen)))
        else:
            seen, targets_MK = labelled_orbit(images_SCHW, self.labels, self._symmetries)
        for encoder, features_BF in zip(self.encoders, features_EBF, strict=True):
            real_BK = one_hot(labels_B, targets_MK.shape[1]).to(features_BF)
            head_FK = torch.randn(features_BF.shape[1], real_BK.shape[1], generator=g).to(features_BF)
            head_FK = head_FK / math.sqrt(len(head_FK))
            pairs = ((features_BF, real_BK), (encoder(seen), targets_MK))
            theirs, ours = (_head_gradient(features, head_FK, targets) for features, targets in pairs)
            losses.append(1 - torch.nn.functional.cosine_similarity(theirs, ours, dim=0))
        return losses

    def measure(self) -> HeadResult:
        """Return the loss of this iteration and its gradients; the state does not change."""
        g, count = generator(self._seed, self.iteration), self._options.per_class
        index_B = torch.cat([rows[_draw(len(rows), count, g).to(rows.device)] for rows in self._members])
        version_B = _draw(self._features_ENGF[0].shape[1], len(index_B), g).to(index_B.device)
        stored, log_scales_E = (value.detach().requires_grad_() for value in (self.stored, self._log_scales_E))
        loss = self.loss(stored, log_scales_E, index_B, version_B)
        return HeadResult(loss.detach(), *torch.autograd.grad(loss, (stored, log_scales_E), materialize_grads=True))

    def step(self) -> list[Record]:
        """Run one iteration, and return its record.

        Raises
        ------
        DivergenceError
            If the loss or the gradient is not finite. The state does not change.
        """
        result = self.measure()
        lr, norm = self._lr(), float(result.d_stored.norm())
        check_finite({"loss": float(result.loss), "gradient": norm}, lr, lr, self.iteration)
        self.stored.grad, self._log_scales_E.grad = result.d_stored, result.d_log_scales_E
        for group in self._optimiser.param_groups:
            group["lr"] = lr
        self._optimiser.step()
        self.average.lerp_(self.stored, 1 - self.recipe.ema)
        self.iteration += 1
        nan = float("nan")
        return [
            Record(
                self.iteration, OUTCOME, OUTCOME, 0, float(result.loss), nan, nan, norm, 0, False, Decision.STAY.value
            )
        ]  # fmt: skip

    def _lr(self) -> float:
        first = self.recipe.image_step.lr
        assert first != "auto"  # the recipe has checked it
        return first * (1 + math.cos(math.pi * self.iteration / self.recipe.iterations)) / 2

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return the state as (tensors, strings), the form that safetensors stores."""
        tensors = {"log_scales": self._log_scales_E} | optimiser_tensors("step", self._optimiser)
        return self._copies(tensors), {"iteration": json.dumps(self.iteration)}

    def load_state_dict(self, tensors: dict[str, Tensor], strings: dict[str, str]) -> None:
        """Continue bit for bit from the result of `state_dict`."""
        self._load_copies(tensors)
        self._log_scales_E.copy_(tensors["log_scales"])
        load_optimiser("step", self._optimiser, tensors)
        self.iteration = json.loads(strings["iteration"])


def _head_gradient(features_BF: Tensor, head_FK: Tensor, targets_BK: Tensor) -> Tensor:
    """Return the gradient of the cross entropy in a head's weights, flattened."""
    return (features_BF.T @ ((features_BF @ head_FK).softmax(dim=1) - targets_BK)).flatten() / len(features_BF)


def _draw(end: int, count: int, g: torch.Generator) -> Tensor:
    return torch.randint(end, (count,), generator=g)
