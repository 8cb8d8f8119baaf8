"""One distillation step: choose pieces of the experts' trajectories, match them, move the images.

`core.recipe` is everything a person may choose; `Distiller` is the mutable state of one run (images, labels, learning rates, optimiser
momenta, schedule) and its `step`. Randomness of iteration i is drawn from `fold_in(seed, i)` alone, so the state is all that a
resumed run needs: it continues bit for bit.

A step measures each of its pieces and then advances by all of them in their order. What is measured depends on the `Shared` part of the
state alone: another process that holds it measures the same, and the sum does not tell who measured what.

The images live in normalised space, where every colour channel of the training set has mean 0 and standard deviation 1: a step of
0.03 there is 0.03 sigma of the channel. The learned quantity behind the student's learning rate is its logarithm: no negative rates.
"""

from __future__ import annotations

import functools
import json
import math
import statistics
from collections import defaultdict
from itertools import cycle
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raydistill.core.divergence import STUDENT_LR_RANGE, check_finite
from raydistill.core.matching import Batch, Matched, Matcher, Precision, student_loss
from raydistill.core.networks import Network
from raydistill.core.recipe import Recipe
from raydistill.core.schedule import Decision, ScheduleState
from raydistill.core.trajectories import Path, Straight, Trajectories
from raydistill.seeding import generator

# How far the student of `student_lr: auto` goes on the initial images, in units of the experts' way (docs/log.md, 2026-11-21).
AS_FAR = 0.8
RATES_PER_OCTAVE = 8  # that `auto` chooses from
SMALLEST_GRADIENT = 1e-12  # root mean square over the pixels; images that are all zero have none
FIRST_STEP = 0.03  # sigma: how far `image_step: {kind: sgd, lr: auto}` moves a pixel in an iteration, at first


class Record(NamedTuple):
    """What one piece of an iteration did; a row of `history.parquet`."""

    iteration: int
    expert: int
    start_epoch: float
    cap: int
    loss: float
    next_epoch_loss: float  # NaN when the schedule does not watch it
    student_lr: float
    gradient_norm: float
    student_steps: int  # of which the last one was matched
    skipped: bool  # the loss was above `skip_above`
    decision: str  # of the iteration


class Shared(NamedTuple):
    """What a measurement depends on, of a distiller's state."""

    images_SCHW: Tensor
    labels_SK: Tensor
    log_lrs_E: Tensor
    schedule: ScheduleState


class Measured(NamedTuple):
    """One piece of an iteration, matched. next_epoch_loss: None where the schedule does not watch it."""

    expert: int
    start_epoch: float
    matched: Matched
    next_epoch_loss: float | None


class Distiller:
    """The state of one distillation run.

    Parameters
    ----------
    images_SCHW
        Initial synthetic images in normalised space, sorted by class.
    labels_SK
        Probabilities (hard labels: one-hot; votes) or initial logits (soft labels).
    seed
        Root of the randomness of every iteration.
    memory_mb
        What an iteration may keep beside the work of one student step, see `Matcher`; no bit depends on it.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: Network,
        trajectories: Trajectories,
        images_SCHW: Tensor,
        labels_SK: Tensor,
        seed: int,
        memory_mb: float | None = None,
    ) -> None:
        if trajectories.num_epochs < recipe.expert_epochs:
            raise ValueError(
                f"expert_epochs = {recipe.expert_epochs}, but the experts have only {trajectories.num_epochs} epochs"
            )
        self.recipe = recipe
        self.trajectories = trajectories
        self._path: Path = Straight(trajectories) if recipe.trajectories == "straight" else _as_they_went(trajectories)
        self.images = images_SCHW.clone()
        self.average = images_SCHW.clone()
        self.labels = labels_SK.clone()
        self.last_epoch = trajectories.num_epochs - recipe.expert_epochs  # the latest possible start
        if recipe.schedule.min_start_epoch > self.last_epoch:
            raise ValueError(
                f"schedule.min_start_epoch = {recipe.schedule.min_start_epoch}, but with {trajectories.num_epochs} epochs of the "
                f"experts and expert_epochs = {recipe.expert_epochs} the last possible start is {self.last_epoch}"
            )
        rates = self.last_epoch + 1 if recipe.lr_per_epoch else 1
        first = float("nan") if recipe.student_lr == "auto" else recipe.student_lr
        self.log_lrs = [torch.tensor(math.log(first)).to(self.images) for _ in range(rates)]
        self.schedule: ScheduleState = recipe.schedule.init()
        self.finished = False
        self._seed = seed
        self.image_lr = math.nan if recipe.image_step.lr == "auto" else recipe.image_step.lr
        precision: Precision = "bfloat16" if recipe.precision == "bfloat16" else "float32"
        loss = student_loss(network, recipe.augmentation, precision)
        skip = network.layout.parameters_of_first_layers(recipe.skip_layers)
        self._matcher = Matcher(
            loss, recipe.engine, recipe.compile is True, skip, recipe.match_at == "nearest", memory_mb
        )
        self._optimisers = {
            "images": recipe.image_step.build([self.images]),
            "lrs": recipe.lr_step.build(self.log_lrs),
            "labels": recipe.label_step.build([self.labels]),
        }
        self._set_step_sizes()

    @property
    def iteration(self) -> int:
        return self.schedule.iteration

    @property
    def published_images(self) -> Tensor:
        """What this iterate would publish: the moving average, or the images themselves without one."""
        return self.average if self.recipe.ema else self.images

    @property
    def student_lrs(self) -> Tensor:
        """[1] learning rate, or one per start epoch of the window, in their order: those before it were never trained."""
        first = self.recipe.schedule.min_start_epoch if len(self.log_lrs) > 1 else 0
        return torch.stack(self.log_lrs[first : self.schedule.cap]).exp()

    def targets(self) -> Tensor:
        """[S, K] probabilities that the student is taught."""
        return self.labels.softmax(dim=1) if self.recipe.labels == "soft" else self.labels

    def begin(self, typical_DSCHW: Tensor) -> None:
        """Choose what the recipe leaves to `auto`, before the first step; a resumed run has it in its state.

        typical_DSCHW: for the student's rate, sets of images that move a student as distilled ones will: the initial ones, but for class
        means. These are much alike and move it little, and a rate that suits them is far too large as soon as they are not.
        """
        if self.recipe.student_lr == "auto":
            self._choose_student_lr(typical_DSCHW)
        if self.recipe.image_step.lr == "auto":
            self._choose_image_lr(self.recipe.image_step.momentum)

    def _choose_student_lr(self, typical_DSCHW: Tensor) -> None:
        """The largest of the grid 2^(k / RATES_PER_OCTAVE) at which the student goes at most `AS_FAR` times as far as the experts.

        |theta_N - theta_0| against |theta* - theta_0|, the geometric mean over three experts and both ends of the first window, each with
        one of the sets in turn. Until the images are worth something, most of its way leads aside, so a student that goes farther ends
        farther from its target than it began.
        """
        cases = self._first_cases()
        low, high = (math.ceil(math.log2(bound) * RATES_PER_OCTAVE) for bound in STUDENT_LR_RANGE)
        while high - low > 1:  # bisection: a longer step goes farther
            middle = (low + high) // 2
            low, high = (
                (middle, high)
                if self._goes(2 ** (middle / RATES_PER_OCTAVE), typical_DSCHW, cases) <= AS_FAR
                else (low, middle)
            )
        for log_lr in self.log_lrs:
            log_lr.fill_(low / RATES_PER_OCTAVE * math.log(2))

    def _choose_image_lr(self, momentum: float) -> None:
        """Such that `FIRST_STEP` = lr g / (1 - m), what SGD with momentum m goes along a gradient that stays, g the root mean square of
        the gradient over the pixels and the cases of `_choose_student_lr`."""
        lr, squares = self.log_lrs[0].exp(), []
        for begin, target, batches in self._first_cases():
            matched = self._matcher.match(begin, target, self.images, self.targets(), lr, batches)
            squares.append(float(matched.d_images_SCHW.double().square().mean()))
        g = math.sqrt(statistics.fmean(squares))
        self._check(g, g, float(lr))
        self.image_lr = FIRST_STEP * (1 - momentum) / max(g, SMALLEST_GRADIENT)
        self._set_step_sizes()

    def _first_cases(self) -> list[tuple[Tensor, Tensor, list[Batch]]]:
        """Where a student begins, where its expert went from there, and the student's steps."""
        g = generator(self._seed, "first cases")
        window = {self.recipe.schedule.min_start_epoch, min(self.schedule.cap - 1, self.last_epoch)}
        cases = []
        for expert in range(min(3, self.trajectories.num_experts)):
            for start in sorted(window):
                begin, target = self._ends(expert, start)
                cases.append((begin, target, self._batches(g)))
        return cases

    def _goes(self, lr: float, sets_DSCHW: Tensor, cases: list[tuple[Tensor, Tensor, list[Batch]]]) -> float:
        """How far the student goes at a rate, in units of the experts' way: the geometric mean of all cases."""
        rate, targets, logs = torch.tensor(lr).to(self.images), self.targets(), []
        for (begin, target, batches), images_SCHW in zip(cases, cycle(sets_DSCHW), strict=False):
            went = self._matcher.displacement(begin, images_SCHW, targets, rate, batches)
            logs.append(float((went / (target - begin)[self._matcher.skip :].norm()).log()))
        too_far = any(math.isnan(log) or log == math.inf for log in logs)
        return math.inf if too_far else math.exp(math.fsum(logs) / len(logs))

    def step(self) -> list[Record]:
        """One iteration."""
        return self.advance(self.measure_all())

    def measure_all(self) -> list[Measured]:
        return [self.measure(piece) for piece in range(self.recipe.trajectories_per_step)]

    def shared(self) -> Shared:
        return Shared(self.images, self.labels, torch.stack(self.log_lrs), self.schedule)

    def share(self, other: Shared) -> None:
        """Take over what another distiller of the same recipe, experts and seed has, to `measure` for it."""
        self.images, self.labels, self.schedule = other.images_SCHW, other.labels_SK, other.schedule
        self.log_lrs = list(other.log_lrs_E)

    def measure(self, piece: int) -> Measured:
        """The matching loss of one of this iteration's pieces, and its gradients; the state stays as it is."""
        g = generator(self._seed, self.iteration, *((piece,) if piece else ()))
        expert = int(torch.randint(self.trajectories.num_experts, (1,), generator=g))
        start = self._start_epoch(g, piece)
        lr = self._log_lr(start).exp()
        matched = self._matcher.match(*self._ends(expert, start), self.images, self.targets(), lr, self._batches(g))
        return Measured(expert, start, matched, self._next_epoch_loss(g, expert) if piece == 0 else None)

    def advance(self, pieces: list[Measured]) -> list[Record]:
        """Move by what was measured of all pieces, in their order.

        DivergenceError, with the state untouched, when a loss or gradient is not finite or a rate runs away.
        """
        for piece in pieces:
            every = torch.stack([gradient.norm() for gradient in piece.matched.gradients]).norm()
            self._check(float(piece.matched.loss), float(every), float(self._log_lr(piece.start_epoch).exp()))
        unseen = pieces[0].next_epoch_loss
        if unseen is not None:
            self._check(unseen, 0.0, float(self._log_lr(self.schedule.cap - 1).exp()))
        ceiling = math.inf if self.recipe.skip_above is None else self.recipe.skip_above
        skipped = [float(piece.matched.loss) > ceiling for piece in pieces]
        if followed := [piece for piece, skip in zip(pieces, skipped, strict=True) if not skip]:
            self._descend(followed)
        cap = self.schedule.cap
        self.schedule, decision = self.recipe.schedule.step(self.schedule, unseen, self.last_epoch)
        self._act_on(decision)
        nan = float("nan")
        return [
            Record(
                self.iteration, piece.expert, piece.start_epoch, cap, float(piece.matched.loss),
                nan if piece.next_epoch_loss is None else piece.next_epoch_loss, float(self._log_lr(piece.start_epoch).exp()),
                float(piece.matched.d_images_SCHW.norm()), piece.matched.steps, skip, decision.value,
            )
            for piece, skip in zip(pieces, skipped, strict=True)
        ]  # fmt: skip

    def _start_epoch(self, g: torch.Generator, piece: int) -> float:
        first = self.recipe.schedule.min_start_epoch
        width = min(self.schedule.cap, self.last_epoch + 1) - first
        if self.recipe.start_epochs == "cycle":
            return first + (self.iteration * self.recipe.trajectories_per_step + piece) % width
        if self.recipe.start_epochs == "continuous":
            return first + (width - 1) * float(torch.rand(1, generator=g))
        return first + int(torch.randint(width, (1,), generator=g))

    def _rate(self, start_epoch: float) -> int:
        return min(int(start_epoch), len(self.log_lrs) - 1)

    def _log_lr(self, start_epoch: float) -> Tensor:
        return self.log_lrs[self._rate(start_epoch)]

    def _ends(self, expert: int, start: float) -> tuple[Tensor, Tensor]:
        target = self._path(expert, start + self.recipe.expert_epochs)
        return self._path(expert, start).to(self.images), target.to(self.images)

    def _batches(self, g: torch.Generator) -> list[Batch]:
        total = len(self.images)
        size = min(self.recipe.batch_size or total, total)
        waiting: list[Tensor] = []

        def draw() -> Batch:
            if size == total:
                return Batch(None, self.recipe.augmentation.sample(g, size))
            if not waiting:
                waiting.extend(torch.randperm(total, generator=g)[: total - total % size].split(size))
            return Batch(waiting.pop(0).to(self.images.device), self.recipe.augmentation.sample(g, size))

        return [draw() for _ in range(self.recipe.num_steps)]

    def _next_epoch_loss(self, g: torch.Generator, expert: int) -> float | None:
        """The matching loss at start epoch = cap, on which the images are not trained; no graph is built."""
        if not self.recipe.schedule.watches(self.schedule, self.last_epoch):
            return None
        lr = self._log_lr(self.schedule.cap - 1).exp()  # what the next epoch would inherit
        start, target = self._ends(expert, self.schedule.cap)
        return float(self._matcher.loss(start, target, self.images, self.targets(), lr, self._batches(g)))

    def _check(self, loss: float, gradient_norm: float, lr: float) -> None:
        check_finite(loss, gradient_norm, lr, self.recipe, self.image_lr, self.iteration)

    def _descend(self, pieces: list[Measured]) -> None:
        """Along the mean gradient; a rate along that of the pieces which began with it."""
        self.images.grad = _mean([piece.matched.d_images_SCHW for piece in pieces])
        of_rate = defaultdict(list)
        for piece in pieces:
            log_lr = self._log_lr(piece.start_epoch)
            of_rate[self._rate(piece.start_epoch)].append(piece.matched.d_lr * log_lr.exp())
        for rate, gradients in of_rate.items():
            self.log_lrs[rate].grad = _mean(gradients)
        if self.recipe.labels == "soft":
            d_targets = _mean([piece.matched.d_targets_SK for piece in pieces])
            p = self.labels.softmax(dim=1)  # chain rule of the softmax
            self.labels.grad = p * (d_targets - (p * d_targets).sum(dim=1, keepdim=True))
        for optimiser in self._optimisers.values():
            optimiser.step()  # parameters without a gradient stay where they are
            optimiser.zero_grad(set_to_none=True)
        self.average.lerp_(self.images, 1 - self.recipe.ema)

    def _act_on(self, decision: Decision) -> None:
        if decision is Decision.ADVANCE and self.recipe.lr_per_epoch:
            new = min(self.schedule.cap - 1, len(self.log_lrs) - 1)
            self.log_lrs[new].copy_(self.log_lrs[new - 1])
        self.finished = decision is Decision.STOP or self.iteration >= self.recipe.iterations
        self._set_step_sizes()

    def _set_step_sizes(self) -> None:
        """Fine-tuning shrinks the image step; with one rate per epoch each rate is visited every cap-th time, so its step grows."""
        cap = self.schedule.cap if self.recipe.lr_per_epoch else 1
        sizes = {
            "images": self.image_lr * self.schedule.image_lr_scale,
            "lrs": self.recipe.lr_step.lr * cap,
        }
        for name, size in sizes.items():
            for group in self._optimisers[name].param_groups:
                group["lr"] = size

    def state(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """(tensors, strings): all that `load` needs to go on bit for bit; the form safetensors stores."""
        tensors = {"images": self.images, "average": self.average, "labels": self.labels}
        tensors["log_lrs"] = torch.stack(self.log_lrs)
        tensors["image_lr"] = torch.tensor(self.image_lr, dtype=torch.float64)
        for name, optimiser in self._optimisers.items():
            for index, entries in optimiser.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{key}": value for key, value in entries.items() if value is not None}
        strings = {"schedule": json.dumps(self.schedule._asdict()), "finished": json.dumps(self.finished)}
        return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, strings

    def load(self, tensors: dict[str, Tensor], strings: dict[str, str]) -> None:
        """Continue from a `state`."""
        self.images.copy_(tensors["images"])
        self.average.copy_(tensors["average"])
        self.labels.copy_(tensors["labels"])
        if self.recipe.image_step.lr == "auto":
            self.image_lr = float(tensors["image_lr"])
        for log_lr, saved in zip(self.log_lrs, tensors["log_lrs"], strict=True):
            log_lr.copy_(saved)
        for name, optimiser in self._optimisers.items():
            state: dict[int, dict[str, Any]] = {}
            for key, value in tensors.items():
                if key.startswith(f"{name}/"):
                    _, index, entry = key.split("/")
                    state.setdefault(int(index), {})[entry] = value.clone()  # the optimiser writes to what it is given
            optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        schedule = json.loads(strings["schedule"])
        self.schedule = ScheduleState(**{**schedule, "losses": tuple(schedule["losses"])})
        self.finished = json.loads(strings["finished"])
        self._set_step_sizes()


def _mean(tensors: list[Tensor]) -> Tensor:
    """Summed in their order."""
    return functools.reduce(torch.add, tensors) / len(tensors)


def _as_they_went(trajectories: Trajectories) -> Path:
    return lambda expert, epoch: trajectories(expert, int(epoch))
