"""Run distillation steps: evaluate segments, move images along the mean gradient.

`distillation.recipe` holds the options, and `distillation.segments` computes losses and gradients. `Distiller` is
the mutable state of one run: images, labels, learning rates, optimiser momenta and schedule. The
random numbers of an iteration depend on the seed and the iteration's number alone, so a resumed run
continues bit for bit.

A step evaluates all its segments, then advances by their results in order. Each result depends on
the `SharedState` alone. Any process may compute it, and the sum does not depend on which process
did.

The images are normalised: every colour channel of the training set has mean 0 and standard
deviation 1. The logarithm of the student's learning rate is learned, so the rate stays positive.
"""

from __future__ import annotations

import functools
import json
import math
from collections import defaultdict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raydistill.distillation.divergence import check_finite, check_student_lr
from raydistill.distillation.options import SMALLEST_GRADIENT
from raydistill.distillation.outcome import RealImages
from raydistill.distillation.recipe import Recipe, ResolvedRecipe, resolve_recipe
from raydistill.distillation.schedule import Decision, Matched, ScheduleState
from raydistill.distillation.schedule.base import check_step
from raydistill.distillation.segments import FIRST_STEP, SegmentEvaluator, SegmentResult, SharedState, StepSizes
from raydistill.distillation.space import Space, StoredImages, gradient
from raydistill.distillation.trajectories import Trajectories
from raydistill.learning.networks import Network


class Record(NamedTuple):
    """The result of one segment of an iteration; a row of `history.parquet`."""

    iteration: int
    expert: int  # -1 for outcome matching
    start_epoch: float  # -1, -2, ... for the architectures of outcome matching
    cap: int
    loss: float  # NaN if the expert is stationary
    next_epoch_loss: float  # NaN if not measured
    student_lr: float
    gradient_norm: float
    student_steps: int  # the last one was matched
    skipped: bool  # the loss was above `skip_above`, or the expert is stationary
    decision: str  # of the iteration


class Distiller(StoredImages):
    """The state of one distillation run.

    Parameters
    ----------
    recipe
        The options. A `Recipe` is resolved with `Recipe.resolved()`, so its `student_steps` must be
        a number.
    network, trajectories
        The student's network, and the experts.
    images_SCHW
        Initial synthetic images, float32 or float64, normalised and sorted by class.
    labels_SK
        Class probabilities (hard labels or votes), or initial logits (soft labels).
    seed
        Root of all random numbers of the iterations.
    memory_mb
        Memory that the engine may use to store student steps; it does not change the result.
    real
        Training images, which `recipe.outcome` needs.
    space
        Where the images are stored: `image_space` of real images. None: the pixels, or tiles of
        `recipe.multi_formation`.

    Attributes
    ----------
    images, published_images
        The images [S, C, H, W] on which a student is trained, and those to publish: their moving
        average, if `recipe.ema` is set.

    Raises
    ------
    ValueError
        If the experts have too few epochs for the recipe, or real images or the space are missing.

    Notes
    -----
    `step` begins a new run by itself, with its initial images as typical ones. If these are class
    means, call `begin` with real images first. A resumed run calls `load_state_dict`.
    """

    def __init__(
        self,
        recipe: Recipe | ResolvedRecipe,
        network: Network,
        trajectories: Trajectories,
        images_SCHW: Tensor,
        labels_SK: Tensor,
        seed: int,
        memory_mb: float | None = None,
        real: RealImages | None = None,
        space: Space | None = None,
    ) -> None:
        self.resolved = resolve_recipe(recipe)
        self.segments = SegmentEvaluator(self.resolved, network, trajectories, seed, memory_mb, real)
        super().__init__(self.resolved.options, images_SCHW, labels_SK, space)
        self._lr_is_chosen = self.resolved.student_lr is not None
        # Until `begin` chooses the rate, 0 is a placeholder that no step reads.
        first = 0.0 if self.resolved.student_lr is None else math.log(self.resolved.student_lr)
        self.log_lrs = [torch.tensor(first).to(self.stored) for _ in range(self.segments.num_trajectory_lrs)]
        if self.recipe.outcome is not None:
            log_lr = torch.tensor(math.log(self.recipe.outcome.student_lr)).to(self.stored)
            self.log_lrs += [log_lr.clone() for _ in range(self.recipe.outcome.num_lrs)]
        self.schedule: ScheduleState = self.recipe.schedule.init()
        self.finished = False
        self.image_lr = self.resolved.image_lr
        self._optimisers = {
            "images": self.recipe.image_step.build([self.stored]),
            "lrs": self.recipe.lr_step.build(self.log_lrs),
            "labels": self.recipe.label_step.build([self.labels]),
        }
        self._set_step_sizes()

    @property
    def iteration(self) -> int:
        """Return the number of completed iterations."""
        return self.schedule.iteration

    @property
    def student_lrs(self) -> Tensor:
        """Return the student's learning rates.

        One, or one per start epoch of the window. After outcome matching: that of its first
        architecture.
        """
        window = self.segments.window(self.schedule)
        log_lrs = self.log_lrs[window.start : window.stop] if self.recipe.lr_per_epoch else self.log_lrs[:1]
        if self.segments.is_outcome(self.iteration - 1):
            log_lrs = self.log_lrs[-1:]
        return torch.stack(log_lrs).exp()

    @property
    def _has_begun(self) -> bool:
        return self._lr_is_chosen and self.image_lr is not None

    def targets(self) -> Tensor:
        """Return the student's target probabilities [S, K]."""
        return self.labels.softmax(dim=1) if self.recipe.labels == "soft" else self.labels

    def begin(self, typical_DSCHW: Tensor) -> None:
        """Choose the learning rates that the recipe leaves to "auto", if there are any.

        Parameters
        ----------
        typical_DSCHW
            D sets of images that move a student as distilled images will: the initial images, or
            real ones if these are class means. Class means are much alike and move a student
            little; a rate chosen on them is soon far too large.

        Raises
        ------
        StationaryExperts
            If the experts do not move at the first start epochs.
        DivergenceError
            If the gradient on the initial images is not finite.
        """
        if None not in (self.resolved.student_lr, self.resolved.image_lr):
            return
        epochs = self.recipe.schedule.first_epochs(self.segments.window(self.schedule))
        initial = StepSizes(self.segments, epochs, self.images, self.targets())
        if self.resolved.student_lr is None:
            log_lr = math.log(initial.student_lr(typical_DSCHW))
            for log_lr_T in self.log_lrs[: self.segments.num_trajectory_lrs]:
                log_lr_T.fill_(log_lr)
            self._lr_is_chosen = True
        if self.resolved.image_lr is None and self.recipe.image_step.kind == "sgd":
            lr = self.log_lrs[0].exp()
            g = initial.image_gradient(lr)
            self._check(float(lr), gradient=g)
            self.image_lr = FIRST_STEP * (1 - self.recipe.image_step.momentum) / max(g, SMALLEST_GRADIENT)
            self._set_step_sizes()

    def step(self) -> list[Record]:
        """Run one iteration, and return one record per segment.

        The first one begins the run (`begin`) with the initial images, if that was not done.
        """
        if not self._has_begun:
            self.begin(self.images[None])
        return self.advance(self.measure_all())

    def measure_all(self) -> list[SegmentResult]:
        """Return the results of all segments of this iteration, in order."""
        return [self.measure(segment) for segment in range(self.recipe.trajectories_per_step)]

    def measure(self, segment: int) -> SegmentResult:
        """Return the result of one segment of this iteration; the state does not change."""
        return self.segments.measure(self.shared(), segment)

    def shared(self) -> SharedState:
        """Return the state that another `SegmentEvaluator` needs for this iteration.

        Raises
        ------
        ValueError
            If the recipe leaves a learning rate to "auto", and `begin` was not called.
        """
        if not self._has_begun:
            raise ValueError('call Distiller.begin first: it chooses the learning rates that are "auto"')
        return SharedState(self.images, self.targets(), torch.stack(self.log_lrs), self.schedule)

    def advance(self, results: list[SegmentResult]) -> list[Record]:
        """Update the state with the results of all segments, in their order.

        Returns
        -------
        list of Record
            One per segment.

        Raises
        ------
        DivergenceError
            If a loss or gradient is not finite, or the student's learning rate is out of range. The
            state does not change.
        """
        skipped = [self._skips(result) for result in results]
        used = [result for result, skip in zip(results, skipped, strict=True) if not skip]
        for result in used:
            norm = torch.stack([gradient.norm() for gradient in result.matched.gradients]).norm()
            self._check(self._lr(result.start_epoch), loss=float(result.matched.loss), gradient=float(norm))
        next_epoch_loss = results[0].next_epoch_loss
        if next_epoch_loss is not None and self.recipe.skip_above is not None and not math.isfinite(next_epoch_loss):
            next_epoch_loss = None  # an overflow is skipped, as in a segment
        if next_epoch_loss is not None:
            self._check(self._lr(self.schedule.cap - 1), loss=next_epoch_loss)
        if used:
            self._descend(used)
        cap = self.segments.window(self.schedule).stop
        if results[0].is_outcome:
            self.schedule, decision = self.schedule._replace(iteration=self.iteration + 1), Decision.STAY
        else:
            matched = [Matched(result.start_epoch, float(result.matched.loss)) for result in results]
            last_epoch = self.segments.last_epoch
            stepped = self.recipe.schedule.step(self.schedule, next_epoch_loss, last_epoch, matched)
            self.schedule, decision = check_step(self.recipe.schedule, stepped)
            if decision is Decision.STOP:
                decision = self._lengthen_or_stop()
        self._act_on(decision)
        nan = float("nan")
        return [
            Record(
                self.iteration, result.expert, result.start_epoch, cap, float(result.matched.loss),
                nan if result.next_epoch_loss is None else result.next_epoch_loss, self._lr(result.start_epoch),
                float(result.matched.d_images_SCHW.norm()), result.matched.steps, skip, decision.value,
            )
            for result, skip in zip(results, skipped, strict=True)
        ]  # fmt: skip

    def _skips(self, result: SegmentResult) -> bool:
        """Return whether the expert is stationary or the loss is not within `skip_above`."""
        limit = None if result.is_outcome else self.recipe.skip_above
        return result.is_stationary or (limit is not None and not float(result.matched.loss) <= limit)

    def _lr(self, start_epoch: float) -> float:
        """Return the learning rate of a student that starts at an epoch."""
        return float(self.log_lrs[self.segments.lr_index(start_epoch)].exp())

    def _check(self, lr: float, **figures: float) -> None:
        check_finite(figures, lr, self.image_lr, self.iteration)
        check_student_lr(lr, self.iteration)

    def _descend(self, results: list[SegmentResult]) -> None:
        """Step along the mean gradient.

        A learning rate follows the segments that started with it.
        """
        recipe = self.recipe
        with_norms = [(result, float(result.matched.d_images_SCHW.norm())) for result in results]
        d_images_SCHW = _mean(
            [recipe.image_step.gradient_scale(norm) * result.matched.d_images_SCHW for result, norm in with_norms]
        )
        self.stored.grad = gradient(self._space, self.stored, d_images_SCHW)
        if shrinkage := recipe.objective.shrinkage:
            self.stored.grad += 2 * shrinkage / len(self.stored) * self.stored.detach()
        d_log_lrs = defaultdict(list)
        for result, norm in with_norms:
            index = self.segments.lr_index(result.start_epoch)
            d_log_lr = result.matched.d_lr * self.log_lrs[index].exp()
            d_log_lrs[index].append(recipe.lr_step.gradient_scale(norm) * d_log_lr)
        for index, gradients in d_log_lrs.items():
            self.log_lrs[index].grad = _mean(gradients)
        if recipe.labels == "soft":
            d_targets = _mean(
                [recipe.label_step.gradient_scale(norm) * result.matched.d_targets_SK for result, norm in with_norms]
            )
            p = self.labels.softmax(dim=1)  # chain rule of the softmax
            self.labels.grad = p * (d_targets - (p * d_targets).sum(dim=1, keepdim=True))
        for optimiser in self._optimisers.values():
            optimiser.step()  # parameters without a gradient do not move
            optimiser.zero_grad(set_to_none=True)
        self.average.lerp_(self.stored, 1 - self.recipe.ema)

    def _lengthen_or_stop(self) -> Decision:
        """Lengthen the students once, if N is automatic; then stop."""
        longer, steps = self.recipe.schedule.with_longer_students(self.schedule), self.resolved.student_steps
        if longer is not None and self.resolved.longer_student_steps > steps:
            self.schedule = longer
            return Decision.LENGTHEN
        return Decision.STOP if self.recipe.outcome is None else Decision.STAY  # outcome matching follows

    def _act_on(self, decision: Decision) -> None:
        if decision is Decision.ADVANCE and self.recipe.lr_per_epoch:
            new = min(self.schedule.cap - 1, self.segments.num_trajectory_lrs - 1)
            self.log_lrs[new].copy_(self.log_lrs[new - 1])
        if decision is Decision.LENGTHEN:  # with this rate a student moves as far as before
            shorter = math.log(self.resolved.student_steps / self.resolved.longer_student_steps)
            for log_lr in self.log_lrs[: self.segments.num_trajectory_lrs]:
                log_lr.add_(shorter)
        self.finished = decision is Decision.STOP or self.iteration >= self.recipe.iterations
        self._set_step_sizes()

    def _set_step_sizes(self) -> None:
        """Set the optimisers' learning rates.

        Fine-tuning shrinks the image step of trajectory matching. With one student rate per epoch,
        each is updated once per window, so its step grows with the window.
        """
        window = len(self.segments.window(self.schedule)) if self.recipe.lr_per_epoch else 1
        sizes: dict[str, Any] = {"lrs": self.recipe.lr_step.lr * window}
        if self.image_lr is not None:
            outcome = self.recipe.outcome if self.segments.is_outcome(self.iteration) else None
            factor = self.schedule.image_lr_scale if outcome is None else outcome.image_step
            sizes["images"] = self.image_lr * factor
        for name, size in sizes.items():
            for group in self._optimisers[name].param_groups:
                group["lr"] = size

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return the state as (tensors, strings), the form that safetensors stores."""
        tensors = {"log_lrs": torch.stack(self.log_lrs)}
        if self.image_lr is not None:
            tensors["image_lr"] = torch.tensor(self.image_lr, dtype=torch.float64)
        for name, optimiser in self._optimisers.items():
            tensors |= optimiser_tensors(name, optimiser)
        strings = {"schedule": json.dumps(self.schedule._asdict()), "finished": json.dumps(self.finished)}
        return self._copies(tensors), strings

    def load_state_dict(self, tensors: dict[str, Tensor], strings: dict[str, str]) -> None:
        """Continue bit for bit from the result of `state_dict`."""
        self._load_copies(tensors)
        self._lr_is_chosen = True
        if self.resolved.image_lr is None:
            self.image_lr = float(tensors["image_lr"])
        for log_lr, saved in zip(self.log_lrs, tensors["log_lrs"], strict=True):
            log_lr.copy_(saved)
        for name, optimiser in self._optimisers.items():
            load_optimiser(name, optimiser, tensors)
        self.schedule = ScheduleState.from_json(json.loads(strings["schedule"]))
        self.finished = json.loads(strings["finished"])
        self._set_step_sizes()


def optimiser_tensors(name: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimiser as tensors "name/parameter/entry"."""
    states = optimiser.state_dict()["state"].items()
    return {
        f"{name}/{index}/{key}": value
        for index, entries in states
        for key, value in entries.items()
        if value is not None
    }


def load_optimiser(name: str, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load what `optimiser_tensors` returned; other tensors are ignored."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(f"{name}/"):
            _, index, entry = key.split("/")
            state.setdefault(int(index), {})[entry] = value.clone()  # the optimiser writes into it
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _mean(tensors: list[Tensor]) -> Tensor:
    """Return the mean, summed in order."""
    return functools.reduce(torch.add, tensors) / len(tensors)
