"""What an iteration measures: pieces of the experts' trajectories, each with its matching loss and gradients.

A piece is an expert and a start epoch t of the schedule's window; the student begins at theta*_t and is to end at theta*_{t + M}. The
randomness of piece p of iteration i is drawn from `fold_in(seed, i, p)` alone (p = 0: `fold_in(seed, i)`), and nothing here remembers an
iteration. So whoever holds a `Measurer` of the same recipe, experts and seed and is given the same `Shared` measures the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.core.engines import engine_options
from raydistill.core.matching import Batch, Matcher, MatchResult, Precision, no_match, student_loss
from raydistill.core.networks import Network
from raydistill.core.recipe import Recipe
from raydistill.core.schedule import ScheduleState
from raydistill.core.trajectories import Path, Straight, Trajectories
from raydistill.seeding import generator


class SharedState(NamedTuple):
    """What a measurement depends on, of a distiller's state."""

    images_SCHW: Tensor
    targets_SK: Tensor
    log_lrs_E: Tensor
    schedule: ScheduleState


class SegmentResult(NamedTuple):
    """One piece of an iteration, matched. next_epoch_loss: None where the schedule does not watch it, or the expert stands still there."""

    expert: int
    start_epoch: float
    matched: MatchResult
    next_epoch_loss: float | None

    @property
    def is_stationary(self) -> bool:
        """True where the expert ends at the parameters it began with, so that there is nothing to match: straight trajectories, once it
        has arrived. `matched` has no loss then, and no gradient."""
        return self.matched.steps == 0


class SegmentEvaluator:
    """Measures any piece of any iteration of a run.

    Parameters
    ----------
    seed
        Root of the randomness of every iteration.
    memory_mb
        What an iteration may keep beside the work of one student step, see `Matcher`; no bit depends on it.

    ValueError where the experts have too few epochs for the recipe.
    """

    def __init__(
        self, recipe: Recipe, network: Network, trajectories: Trajectories, seed: int, memory_mb: float | None = None
    ) -> None:
        if trajectories.num_epochs < recipe.expert_epochs:
            raise ValueError(
                f"expert_epochs = {recipe.expert_epochs}, but the experts have only {trajectories.num_epochs} epochs"
            )
        self.last_epoch = trajectories.num_epochs - recipe.expert_epochs  # the latest possible start
        if recipe.schedule.min_start_epoch > self.last_epoch:
            raise ValueError(
                f"schedule.min_start_epoch = {recipe.schedule.min_start_epoch}, but with {trajectories.num_epochs} epochs of the "
                f"experts and expert_epochs = {recipe.expert_epochs} the last possible start is {self.last_epoch}"
            )
        self.recipe, self.trajectories, self.seed = recipe, trajectories, seed
        self._path: Path = Straight(trajectories) if recipe.trajectories == "straight" else _as_they_went(trajectories)
        precision: Precision = "bfloat16" if recipe.precision == "bfloat16" else "float32"
        loss = student_loss(network, recipe.augmentation, precision)
        skip = network.layout.parameters_of_first_layers(recipe.skip_layers)
        engine = engine_options(recipe.engine, compile=recipe.compile is True, memory_mb=memory_mb)
        self.matcher = Matcher(loss, engine, skip=skip, nearest=recipe.match_at == "nearest")

    def measure(self, shared: SharedState, piece: int) -> SegmentResult:
        """The matching loss of one of the iteration's pieces, and its gradients."""
        g = generator(self.seed, shared.schedule.iteration, *((piece,) if piece else ()))
        expert = int(torch.randint(self.trajectories.num_experts, (1,), generator=g))
        start = self._start_epoch(g, shared.schedule, piece)
        matched = self._matched(g, shared, expert, start)
        return SegmentResult(expert, start, matched, self._next_epoch_loss(g, shared, expert) if piece == 0 else None)

    def window(self, schedule: ScheduleState) -> range:
        """The start epochs that are trained on."""
        return range(self.recipe.schedule.min_start_epoch, min(schedule.cap, self.last_epoch + 1))

    @property
    def num_lrs(self) -> int:
        """Of the student's learning rates: one, or one per possible start epoch."""
        return self.last_epoch + 1 if self.recipe.lr_per_epoch else 1

    def lr_index(self, start_epoch: float) -> int:
        """Which of them a student has that begins there."""
        return min(int(start_epoch), self.num_lrs - 1)

    def ends(self, expert: int, start: float, like: Tensor) -> tuple[Tensor, Tensor]:
        """theta_P where the student begins, and where its expert was M epochs later; dtype and device as `like`."""
        target = self._path(expert, start + self.recipe.expert_epochs)
        return self._path(expert, start).to(like), target.to(like)

    def batches(self, g: torch.Generator, images_SCHW: Tensor) -> list[Batch]:
        """What the student sees, step by step."""
        total = len(images_SCHW)
        size = self.recipe.batch_of(total)
        waiting: list[Tensor] = []

        def draw() -> Batch:
            if size == total:
                return Batch(None, self.recipe.augmentation.sample(g, size))
            if not waiting:
                waiting.extend(torch.randperm(total, generator=g)[: total - total % size].split(size))
            return Batch(waiting.pop(0).to(images_SCHW.device), self.recipe.augmentation.sample(g, size))

        return [draw() for _ in range(self.recipe.num_steps)]

    def _start_epoch(self, g: torch.Generator, schedule: ScheduleState, piece: int) -> float:
        window = self.window(schedule)
        if self.recipe.start_epochs == "cycle":
            return window[(schedule.iteration * self.recipe.trajectories_per_step + piece) % len(window)]
        if self.recipe.start_epochs == "continuous":
            return window[0] + (len(window) - 1) * float(torch.rand(1, generator=g))
        return window[int(torch.randint(len(window), (1,), generator=g))]

    def _matched(self, g: torch.Generator, shared: SharedState, expert: int, start_epoch: float) -> MatchResult:
        images, targets, log_lrs, _ = shared
        lr = log_lrs[self.lr_index(start_epoch)].exp()
        start, target = self.ends(expert, start_epoch, images)
        if self.matcher.is_stationary(start, target):
            return no_match(images, targets, lr)
        return self.matcher.match(start, target, images, targets, lr, self.batches(g, images))

    def _next_epoch_loss(self, g: torch.Generator, shared: SharedState, expert: int) -> float | None:
        """The matching loss at start epoch = cap, on which the images are not trained; no graph is built."""
        images, targets, log_lrs, schedule = shared
        if not self.recipe.schedule.watches(schedule, self.last_epoch):
            return None
        start, target = self.ends(expert, schedule.cap, images)
        if self.matcher.is_stationary(start, target):
            return None
        lr = log_lrs[self.lr_index(schedule.cap - 1)].exp()  # what the next epoch would inherit
        return float(self.matcher.loss(start, target, images, targets, lr, self.batches(g, images)))


def _as_they_went(trajectories: Trajectories) -> Path:
    return lambda expert, epoch: trajectories(expert, int(epoch))
