r"""Define schedules: the start epochs that images are trained on, and their change.

- `self_adaptive`: a window that grows by the test of the paper (STM).
- `windows`: a fixed window (MTT), and one that grows at regular intervals (DATM).
- `loss_weighted`: no window. Start epochs are drawn by the losses that matching produces.

A schedule is a frozen record of hyper-parameters; `init` and `step` return new state and a
`Decision`. `base.ScheduleBase` says what a run calls.
"""

from __future__ import annotations

from raydistill.distillation.schedule.base import Decision, Matched, ScheduleBase, ScheduleState
from raydistill.distillation.schedule.loss_weighted import LossWeighted
from raydistill.distillation.schedule.self_adaptive import SelfAdaptive
from raydistill.distillation.schedule.windows import Fixed, StepwiseWindow

Schedule = LossWeighted | SelfAdaptive | Fixed | StepwiseWindow  # the default first: keys without a kind mean it
