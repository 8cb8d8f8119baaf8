"""One distillation step: measure pieces of the experts' trajectories, then move the images along the mean of their gradients.

`core.recipe` is everything a person may choose, `core.measuring` finds losses and gradients; `Distiller` is the mutable state of one run
(images, labels, learning rates, optimiser momenta, schedule) and its `step`. The randomness of an iteration hangs on the seed and the
iteration's number alone, so the state is all that a resumed run needs: it continues bit for bit.

A step measures each of its pieces and then advances by all of them in their order. What is measured depends on the `Shared` part of the
state alone: another process that is given it measures the same, and the sum does not tell who measured what.

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

from raydistill.core.divergence import STUDENT_LR_RANGE, check_finite, check_rate
from raydistill.core.matching import Batch
from raydistill.core.networks import Network
from raydistill.core.recipe import SMALLEST_GRADIENT, Recipe
from raydistill.core.schedule import Decision, ScheduleState
from raydistill.core.segments import SegmentEvaluator, SegmentResult, SharedState
from raydistill.core.trajectories import Trajectories
from raydistill.errors import ArtifactIncompatible
from raydistill.seeding import generator

# How far the student of `student_lr: auto` goes on the initial images, in units of the experts' way (docs/log.md, 2026-11-21).
TARGET_DISPLACEMENT_RATIO = 0.8
RATES_PER_OCTAVE = 8  # that `auto` chooses from
FIRST_STEP = 0.03  # sigma: how far `image_step: {kind: sgd, lr: auto}` moves a pixel in an iteration, at first


class Record(NamedTuple):
    """What one piece of an iteration did; a row of `history.parquet`."""

    iteration: int
    expert: int
    start_epoch: float
    cap: int
    loss: float  # NaN of an expert that stands still
    next_epoch_loss: float  # NaN when the schedule does not watch it
    student_lr: float
    gradient_norm: float
    student_steps: int  # of which the last one was matched
    skipped: bool  # the loss was above `skip_above`, or there is none
    decision: str  # of the iteration


class Distiller:
    """The state of one distillation run.

    Parameters
    ----------
    images_SCHW
        Initial synthetic images in normalised space, sorted by class.
    labels_SK
        Probabilities (hard labels: one-hot; votes) or initial logits (soft labels).
    seed, memory_mb
        See `Measurer`.
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
        self.recipe = recipe
        self.segments = SegmentEvaluator(recipe, network, trajectories, seed, memory_mb)
        self.images = images_SCHW.clone()
        self.average = images_SCHW.clone()
        self.labels = labels_SK.clone()
        first = float("nan") if recipe.student_lr == "auto" else recipe.student_lr
        self.log_lrs = [torch.tensor(math.log(first)).to(self.images) for _ in range(self.segments.num_lrs)]
        self.schedule: ScheduleState = recipe.schedule.init()
        self.finished = False
        self.image_lr = math.nan if recipe.image_step.lr == "auto" else recipe.image_step.lr
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
        window = self.segments.window(self.schedule)
        rates = self.log_lrs[window.start : window.stop] if self.recipe.lr_per_epoch else self.log_lrs
        return torch.stack(rates).exp()

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
        """Choose the largest rate 2^(k / RATES_PER_OCTAVE) at which the displacement ratio is at most its target.

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
                if self._displacement_ratio(2 ** (middle / RATES_PER_OCTAVE), typical_DSCHW, cases)
                <= TARGET_DISPLACEMENT_RATIO
                else (low, middle)
            )
        for log_lr in self.log_lrs:
            log_lr.fill_(low / RATES_PER_OCTAVE * math.log(2))

    def _choose_image_lr(self, momentum: float) -> None:
        """Such that `FIRST_STEP` = lr g / (1 - m), what SGD with momentum m goes along a gradient that stays, g the root mean square of
        the gradient over the pixels and the cases of `_choose_student_lr`."""
        lr, squares = self.log_lrs[0].exp(), []
        for begin, target, batches in self._first_cases():
            matched = self.segments.matcher.match(begin, target, self.images, self.targets(), lr, batches)
            squares.append(float(matched.d_images_SCHW.double().square().mean()))
        g = math.sqrt(statistics.fmean(squares))
        self._check(float(lr), gradient=g)
        self.image_lr = FIRST_STEP * (1 - momentum) / max(g, SMALLEST_GRADIENT)
        self._set_step_sizes()

    def _first_cases(self) -> list[tuple[Tensor, Tensor, list[Batch]]]:
        """Where a student begins, where its expert went from there, and the student's steps; of the experts that do not stand still."""
        segments, window, cases = self.segments, self.segments.window(self.schedule), []
        g = generator(segments.seed, "first cases")
        for expert in range(min(3, segments.trajectories.num_experts)):
            for start in sorted({window[0], window[-1]}):
                begin, target = segments.ends(expert, start, self.images)
                if not segments.matcher.is_stationary(begin, target):
                    cases.append((begin, target, segments.batches(g, self.images)))
        if not cases:
            raise ArtifactIncompatible(
                f"the experts stand still at start epochs {window[0]} and {window[-1]}, so a rate cannot be chosen by how far they go",
                "distill", "match earlier epochs (distill.schedule), or give the rates that are auto",
            )  # fmt: skip
        return cases

    def _displacement_ratio(
        self, lr: float, sets_DSCHW: Tensor, cases: list[tuple[Tensor, Tensor, list[Batch]]]
    ) -> float:
        """How far the student goes at a rate, in units of the experts' way: the geometric mean of all cases."""
        rate, targets, logs = torch.tensor(lr).to(self.images), self.targets(), []
        for (begin, target, batches), images_SCHW in zip(cases, cycle(sets_DSCHW), strict=False):
            went = self.segments.matcher.displacement(begin, images_SCHW, targets, rate, batches)
            logs.append(float((went / (target - begin)[self.segments.matcher.skip :].norm()).log()))
        too_far = any(math.isnan(log) or log == math.inf for log in logs)
        return math.inf if too_far else math.exp(math.fsum(logs) / len(logs))

    def step(self) -> list[Record]:
        """One iteration."""
        return self.advance(self.measure_all())

    def measure_all(self) -> list[SegmentResult]:
        return [self.measure(piece) for piece in range(self.recipe.trajectories_per_step)]

    def measure(self, piece: int) -> SegmentResult:
        """One of this iteration's pieces; the state stays as it is."""
        return self.segments.measure(self.shared(), piece)

    def shared(self) -> SharedState:
        """What another `Measurer` needs to measure this iteration's pieces."""
        return SharedState(self.images, self.targets(), torch.stack(self.log_lrs), self.schedule)

    def advance(self, pieces: list[SegmentResult]) -> list[Record]:
        """Move by what was measured of all pieces, in their order.

        DivergenceError, with the state untouched, when a loss or gradient to be followed is not finite or a rate runs away.
        """
        skipped = [self._skips(piece) for piece in pieces]
        followed = [piece for piece, skip in zip(pieces, skipped, strict=True) if not skip]
        for piece in followed:
            every = torch.stack([gradient.norm() for gradient in piece.matched.gradients]).norm()
            self._check(self._lr(piece.start_epoch), loss=float(piece.matched.loss), gradient=float(every))
        unseen = pieces[0].next_epoch_loss
        if unseen is not None and self.recipe.skip_above is not None and not math.isfinite(unseen):
            unseen = None  # overflowed, as pieces may
        if unseen is not None:
            self._check(self._lr(self.schedule.cap - 1), loss=unseen)
        if followed:
            self._descend(followed)
        cap = self.segments.window(self.schedule).stop
        self.schedule, decision = self.recipe.schedule.step(self.schedule, unseen, self.segments.last_epoch)
        self._act_on(decision)
        nan = float("nan")
        return [
            Record(
                self.iteration, piece.expert, piece.start_epoch, cap, float(piece.matched.loss),
                nan if piece.next_epoch_loss is None else piece.next_epoch_loss, self._lr(piece.start_epoch),
                float(piece.matched.d_images_SCHW.norm()), piece.matched.steps, skip, decision.value,
            )
            for piece, skip in zip(pieces, skipped, strict=True)
        ]  # fmt: skip

    def _skips(self, piece: SegmentResult) -> bool:
        """Whether a piece moves nothing: there is nothing to match, or its loss is above `skip_above`, as one that overflowed is."""
        ceiling = self.recipe.skip_above
        return piece.is_stationary or (ceiling is not None and not float(piece.matched.loss) <= ceiling)

    def _lr(self, start_epoch: float) -> float:
        """The rate of a student that begins there."""
        return float(self.log_lrs[self.segments.lr_index(start_epoch)].exp())

    def _check(self, lr: float, **figures: float) -> None:
        check_finite(figures, lr, self.recipe, self.image_lr, self.iteration)
        check_rate(lr, self.recipe, self.iteration)

    def _descend(self, pieces: list[SegmentResult]) -> None:
        """Along the mean gradient; a rate along that of the pieces which began with it."""
        recipe = self.recipe
        weighed = [(piece, float(piece.matched.d_images_SCHW.norm())) for piece in pieces]
        self.images.grad = _mean([recipe.image_step.weight(n) * piece.matched.d_images_SCHW for piece, n in weighed])
        of_rate = defaultdict(list)
        for piece, n in weighed:
            rate = self.segments.lr_index(piece.start_epoch)
            d_log_lr = piece.matched.d_lr * self.log_lrs[rate].exp()
            of_rate[rate].append(recipe.lr_step.weight(n) * d_log_lr)
        for rate, gradients in of_rate.items():
            self.log_lrs[rate].grad = _mean(gradients)
        if recipe.labels == "soft":
            d_targets = _mean([recipe.label_step.weight(n) * piece.matched.d_targets_SK for piece, n in weighed])
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
        """Fine-tuning shrinks the image step; with one rate per epoch each has its turn once in a window, so its step grows with that."""
        turns = len(self.segments.window(self.schedule)) if self.recipe.lr_per_epoch else 1
        sizes = {
            "images": self.image_lr * self.schedule.image_lr_scale,
            "lrs": self.recipe.lr_step.lr * turns,
        }
        for name, size in sizes.items():
            for group in self._optimisers[name].param_groups:
                group["lr"] = size

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """(tensors, strings): all that `load` needs; the form safetensors stores."""
        tensors = {"images": self.images, "average": self.average, "labels": self.labels}
        tensors["log_lrs"] = torch.stack(self.log_lrs)
        tensors["image_lr"] = torch.tensor(self.image_lr, dtype=torch.float64)
        for name, optimiser in self._optimisers.items():
            for index, entries in optimiser.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{key}": value for key, value in entries.items() if value is not None}
        strings = {"schedule": json.dumps(self.schedule._asdict()), "finished": json.dumps(self.finished)}
        return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, strings

    def load_state_dict(self, tensors: dict[str, Tensor], strings: dict[str, str]) -> None:
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
