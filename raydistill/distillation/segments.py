"""Evaluate segments of the experts' trajectories: matching losses and gradients.

A segment is an expert and a start epoch t in the window of the schedule. The student starts at
theta*_t; its target is theta*_{t + M}. Segment p of iteration i draws its random numbers from
`fold_in(seed, i, p)` alone (p = 0: `fold_in(seed, i)`). A `SegmentEvaluator` keeps no state of an
iteration: with the same recipe, experts, seed and `SharedState`, every process computes the same
bits.
"""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections.abc import Callable
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.distillation.divergence import STUDENT_LR_RANGE
from raydistill.distillation.engines import engine_options
from raydistill.distillation.matching import Batch, Matcher, MatchResult, no_match
from raydistill.distillation.outcome import OutcomeEvaluator, RealImages
from raydistill.distillation.recipe import Recipe, ResolvedRecipe, resolve_recipe
from raydistill.distillation.schedule import ScheduleState
from raydistill.distillation.trajectories import Straight, Trajectories
from raydistill.learning.losses import student_loss
from raydistill.learning.networks import Network, build_network
from raydistill.seeding import fold_in, generator

OUTCOME = -1  # expert of a segment that matches the outcome
Path = Callable[[int, float], Tensor]  # theta_P of an expert at a start or target epoch


class SharedState(NamedTuple):
    """The part of a distiller's state that a segment's result depends on."""

    images_SCHW: Tensor
    targets_SK: Tensor
    log_lrs_E: Tensor
    schedule: ScheduleState


class SegmentResult(NamedTuple):
    """The result of one segment.

    Where it matched the outcome, expert is `OUTCOME`, and start_epoch is the index of the
    architecture's learning rate: -1 for the first architecture, -2 for the second.

    next_epoch_loss is None in all segments but the first, if the schedule does not need it, and if
    the expert is stationary there.
    """

    expert: int
    start_epoch: float
    matched: MatchResult
    next_epoch_loss: float | None

    @property
    def is_outcome(self) -> bool:
        """Return whether the outcome was matched, in place of a trajectory."""
        return self.expert == OUTCOME

    @property
    def is_stationary(self) -> bool:
        """Return whether the expert did not move: `matched` has no loss and no gradient.

        This happens on straight trajectories after an expert has reached its end.
        """
        return self.matched.steps == 0


class SegmentEvaluator:
    """Evaluate any segment of any iteration of a run.

    Parameters
    ----------
    recipe
        The options; a `Recipe` is resolved with `Recipe.resolved()`.
    network, trajectories
        The student's network, and the experts.
    seed
        Root of all random numbers of the iterations.
    memory_mb
        Memory that the engine may use to store student steps, see `engines.adjoint`; it does not
        change the result.
    real
        Training images, which `recipe.outcome` needs.

    Raises
    ------
    ValueError
        If the experts have too few epochs for the recipe, or real images are missing.
    """

    def __init__(
        self,
        recipe: Recipe | ResolvedRecipe,
        network: Network,
        trajectories: Trajectories,
        seed: int,
        memory_mb: float | None = None,
        real: RealImages | None = None,
    ) -> None:
        self.resolved = resolve_recipe(recipe)
        options = self.resolved.options
        ahead = self.resolved.expert_epochs
        if trajectories.num_epochs < ahead:
            raise ValueError(f"expert_epochs = {ahead}, but the experts have only {trajectories.num_epochs} epochs")
        self.last_epoch = trajectories.num_epochs - ahead  # the last possible start
        if options.schedule.min_start_epoch > self.last_epoch:
            raise ValueError(
                f"schedule.min_start_epoch = {options.schedule.min_start_epoch}, but with {trajectories.num_epochs} epochs "
                f"of the experts and expert_epochs = {ahead} the last possible start is {self.last_epoch}"
            )
        self.recipe, self.trajectories, self.seed = options, trajectories, seed
        self._path: Path = Straight(trajectories) if options.trajectories == "straight" else _whole_epochs(trajectories)
        arithmetic = self.resolved.arithmetic
        loss = student_loss(network, options.augmentation, arithmetic.precision, options.average_over)
        skip = network.layout.parameters_of_first_layers(options.skip_layers)
        engine = engine_options(options.engine, compile=arithmetic.compile, memory_mb=memory_mb)
        self.matcher = Matcher(loss, engine, skip=skip, nearest=options.match_at == "nearest")
        self._outcomes: list[OutcomeEvaluator] = []
        if options.outcome is not None:
            if real is None:
                raise ValueError("outcome matching needs real images")
            num_classes, side = real.targets_NK.shape[1], real.images_NCHW.shape[-1]
            built = [build_network(net, num_classes, side) for net in options.outcome.networks]
            # The experts' network keeps its matcher, so its step is compiled once.
            matchers = [
                Matcher(student_loss(net, options.augmentation, arithmetic.precision, options.average_over), engine)
                for net in built
            ] or [self.matcher]
            for net, matcher in zip(built or [network], matchers, strict=True):
                of_real = student_loss(net, options.augmentation, arithmetic.precision)
                self._outcomes.append(
                    OutcomeEvaluator(options.outcome, net, matcher, of_real, real, options.augmentation)
                )

    def measure(self, shared: SharedState, segment: int) -> SegmentResult:
        """Return matching loss and gradients of segment number `segment` of the iteration."""
        g = generator(self.seed, shared.schedule.iteration, *((segment,) if segment else ()))
        if self.is_outcome(shared.schedule.iteration):
            return self._measure_outcome(g, shared, segment)
        expert = int(torch.randint(self.trajectories.num_experts, (1,), generator=g))
        start = self._start_epoch(g, shared.schedule, segment)
        matched = self._match(g, shared, expert, start)
        next_epoch_loss = self._next_epoch_loss(g, shared, expert) if segment == 0 else None
        return SegmentResult(expert, start, matched, next_epoch_loss)

    def _measure_outcome(self, g: torch.Generator, shared: SharedState, segment: int) -> SegmentResult:
        images, targets, log_lrs, schedule = shared
        turn = (schedule.iteration * self.recipe.trajectories_per_step + segment) % len(self._outcomes)
        index = OUTCOME - turn
        seed = fold_in(self.seed, schedule.iteration, segment, "fresh")
        matched = self._outcomes[turn].measure(
            g, seed, images, targets, log_lrs[index].exp(), lambda steps: self.batches(g, images, steps)
        )
        return SegmentResult(OUTCOME, index, matched, None)

    def window(self, schedule: ScheduleState) -> range:
        """Return the start epochs that the images are trained on."""
        return range(self.recipe.schedule.min_start_epoch, min(schedule.cap, self.last_epoch + 1))

    def is_outcome(self, iteration: int) -> bool:
        """Return whether an iteration, from 0, matches the outcome."""
        return self.recipe.outcome is not None and iteration >= self.recipe.outcome.after

    @property
    def num_trajectory_lrs(self) -> int:
        """Return the number of learning rates for trajectories: 1, or one per start epoch.

        Those of outcome matching follow them.
        """
        return self.last_epoch + 1 if self.recipe.lr_per_epoch else 1

    def lr_index(self, start_epoch: float) -> int:
        """Return the learning rate's index for a `SegmentResult.start_epoch`.

        A negative one is an index.
        """
        return min(int(start_epoch), self.num_trajectory_lrs - 1)

    def ends(self, expert: int, start: float, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return start and target of a student [P], with the dtype and device of `like`."""
        target = self._path(expert, start + self.resolved.expert_epochs)
        return self._path(expert, start).to(like), target.to(like)

    def student_steps(self, schedule: ScheduleState) -> int:
        """Return N."""
        return self.resolved.longer_student_steps if schedule.lengthened else self.resolved.student_steps

    def batches(self, g: torch.Generator, images_SCHW: Tensor, steps: int) -> list[Batch]:
        """Return one batch for each student step."""
        total = len(images_SCHW)
        size = self.recipe.batch_of(total)
        waiting: list[Tensor] = []

        def draw() -> Batch:
            if size == total:
                return Batch(None, self.recipe.augmentation.sample(g, size))
            if not waiting:
                waiting.extend(torch.randperm(total, generator=g)[: total - total % size].split(size))
            return Batch(waiting.pop(0).to(images_SCHW.device), self.recipe.augmentation.sample(g, size))

        return [draw() for _ in range(steps)]

    def _start_epoch(self, g: torch.Generator, schedule: ScheduleState, segment: int) -> float:
        window = self.window(schedule)
        probabilities = self.recipe.schedule.probabilities(schedule, window)
        if probabilities is not None:
            return window[_draw(g, probabilities)]
        if self.recipe.start_epochs == "cycle":
            return window[(schedule.iteration * self.recipe.trajectories_per_step + segment) % len(window)]
        if self.recipe.start_epochs == "continuous":
            return window[0] + (len(window) - 1) * float(torch.rand(1, generator=g))
        return window[int(torch.randint(len(window), (1,), generator=g))]

    def _match(self, g: torch.Generator, shared: SharedState, expert: int, start_epoch: float) -> MatchResult:
        images, targets, log_lrs, schedule = shared
        lr = log_lrs[self.lr_index(start_epoch)].exp()
        start, target = self.ends(expert, start_epoch, images)
        if self.matcher.is_stationary(start, target):
            return no_match(images, targets, lr)
        batches = self.batches(g, images, self.student_steps(schedule))
        return self.matcher.match(start, target, images, targets, lr, batches)

    def _next_epoch_loss(self, g: torch.Generator, shared: SharedState, expert: int) -> float | None:
        """Return the matching loss at start epoch = cap, on which images are not trained."""
        images, targets, log_lrs, schedule = shared
        if not self.recipe.schedule.needs_next_epoch_loss(schedule, self.last_epoch):
            return None
        start, target = self.ends(expert, schedule.cap, images)
        if self.matcher.is_stationary(start, target):
            return None
        lr = log_lrs[self.lr_index(schedule.cap - 1)].exp()  # the next epoch would inherit this rate
        batches = self.batches(g, images, self.student_steps(schedule))
        return float(self.matcher.loss(start, target, images, targets, lr, batches))


def _draw(g: torch.Generator, probabilities: list[float]) -> int:
    """Return an index, drawn with these probabilities."""
    u = float(torch.rand(1, generator=g, dtype=torch.float64))
    return min(bisect.bisect_right(list(itertools.accumulate(probabilities)), u), len(probabilities) - 1)


def _whole_epochs(trajectories: Trajectories) -> Path:
    return lambda expert, epoch: trajectories(expert, int(epoch))


# Choose step sizes that a recipe leaves to "auto", on the initial images.

# `student_lr: auto`: the student's displacement on the initial images, relative to the experts'
# (dev/log.md, 2026-11-21).
TARGET_DISPLACEMENT_RATIO = 0.8
RATES_PER_OCTAVE = 8  # resolution of `student_lr: auto`
FIRST_STEP = 0.03  # `image_step: {kind: sgd, lr: auto}`: first displacement of a pixel, in standard deviations


class StationaryExperts(ValueError):
    """No expert moves at these start epochs, so displacements give no step size."""

    def __init__(self, epochs: tuple[int, int]) -> None:
        super().__init__(epochs)
        self.epochs = epochs

    def __str__(self) -> str:
        return f"the experts do not move at start epochs {self.epochs[0]} and {self.epochs[1]}"


class StepSizes:
    """Step sizes that fit moving segments of up to three experts at two start epochs.

    Raises
    ------
    StationaryExperts
        If the experts do not move at these start epochs.
    """

    def __init__(
        self, segments: SegmentEvaluator, epochs: tuple[int, int], images_SCHW: Tensor, targets_SK: Tensor
    ) -> None:
        self._segments, self._images, self._targets = segments, images_SCHW, targets_SK
        g, steps = generator(segments.seed, "first cases"), segments.resolved.student_steps
        self._initial: list[tuple[Tensor, Tensor, list[Batch]]] = []  # start, target and batches of each segment
        for expert in range(min(3, segments.trajectories.num_experts)):
            for epoch in sorted(set(epochs)):
                start, target = segments.ends(expert, epoch, images_SCHW)
                if not segments.matcher.is_stationary(start, target):
                    self._initial.append((start, target, segments.batches(g, images_SCHW, steps)))
        if not self._initial:
            raise StationaryExperts(epochs)

    def student_lr(self, typical_DSCHW: Tensor) -> float:
        """Return the largest rate 2^(k / RATES_PER_OCTAVE) of allowed displacement.

        Its displacement ratio is at most `TARGET_DISPLACEMENT_RATIO`. The ratio is the geometric
        mean of |theta_N - theta_0| / |theta* - theta_0| over the segments, each with one of the
        sets in turn. As long as the images are untrained, the student moves mostly sideways; one
        that moves farther ends farther from its target than it began.
        """
        low, high = (math.ceil(math.log2(bound) * RATES_PER_OCTAVE) for bound in STUDENT_LR_RANGE)
        while high - low > 1:  # bisection: a larger rate moves farther
            middle = (low + high) // 2
            ratio = self.displacement_ratio(2 ** (middle / RATES_PER_OCTAVE), typical_DSCHW)
            low, high = (middle, high) if ratio <= TARGET_DISPLACEMENT_RATIO else (low, middle)
        return 2 ** (low / RATES_PER_OCTAVE)

    def image_gradient(self, lr: Tensor) -> float:
        """Return the root mean square of the gradient over the pixels and the segments.

        The image rate follows from lr g / (1 - m) = `FIRST_STEP`, whose left side is the asymptotic
        step of SGD with momentum m along a constant gradient g.
        """
        squares = []
        for start, target, batches in self._initial:
            matched = self._segments.matcher.match(start, target, self._images, self._targets, lr, batches)
            squares.append(float(matched.d_images_SCHW.double().square().mean()))
        return math.sqrt(statistics.fmean(squares))

    def displacement_ratio(self, lr: float, sets_DSCHW: Tensor) -> float:
        """Return the geometric mean of the displacement ratios; inf if one is not finite."""
        lr_tensor, logs = torch.tensor(lr).to(self._images), []
        matcher = self._segments.matcher
        for (start, target, batches), images_SCHW in zip(self._initial, cycle(sets_DSCHW), strict=False):
            moved = matcher.displacement(start, images_SCHW, self._targets, lr_tensor, batches)
            logs.append(float((moved / (target - start)[matcher.skip :].norm()).log()))
        overflowed = any(math.isnan(log) or log == math.inf for log in logs)
        return math.inf if overflowed else math.exp(math.fsum(logs) / len(logs))
