"""The published methods of trajectory matching, each as the recipe of its paper.

Every function returns a `Recipe` with the paper's settings for CIFAR-10 and one image per class
(`pad`: ten). Keywords replace its options: `mtt(iterations=100)`. A method also sets how the experts
are trained; its docstring says so, and `configs/methods/NAME.yaml` has both.
"""

from __future__ import annotations

from typing import Any

from raydistill.distillation.options import SGD
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.schedule import Fixed, SelfAdaptive, StepwiseWindow
from raydistill.learning.augment import DSA, Augmentation


def mtt(**changes: Any) -> Recipe:
    """Return MTT: match expert segments that start in a fixed window.

    The loss is the squared distance of the student's end to the expert's target, divided by that of
    the expert's start (Cazenavette et al. 2022, arXiv:2203.11932, eq. 2). The experts take plain SGD.
    """
    options: dict[str, Any] = {
        "iterations": 5000,
        "student_steps": 50,
        "expert_epochs": 2,
        "student_lr": 0.01,
        "start_epochs": "random",
        "schedule": Fixed(max_start_epoch=1),
        "init": "real",
        "image_step": SGD(lr=100, momentum=0.5),
        "lr_step": SGD(lr=0.001, momentum=0.5),
        "augmentation": Augmentation(operations=DSA, mode="single"),
    }
    return Recipe(**(options | changes))


def stm(**changes: Any) -> Recipe:
    """Return STM: the window grows when the loss after it changes significantly.

    One student learning rate per start epoch is learned (Guan et al. 2023, arXiv:2311.17967). The
    experts take plain SGD.
    """
    options: dict[str, Any] = {
        "iterations": 20_000,
        "expert_epochs": 1,
        "lr_per_epoch": True,
        "start_epochs": "cycle",
        "schedule": SelfAdaptive(significance=5, min_duration=30, max_duration=1000, max_start_epoch=None),
        "init": "noise",
        "image_step": SGD(lr=1000, momentum=0.5),
        "lr_step": SGD(lr=0.01, momentum=0.5),
    }
    return mtt(**(options | changes))


def ftd(**changes: Any) -> Recipe:
    """Return FTD: MTT with a moving average of the images.

    Its experts seek flat minima with GSAM: `Training(flat=SharpnessAware(rho=0.01, alpha=0.3))` (Du et
    al. 2023, arXiv:2211.11004).
    """
    return mtt(**({"ema": 0.9995} | changes))


def datm(**changes: Any) -> Recipe:
    """Return DATM: images that the experts know, soft labels, skipped steps.

    The images begin as real ones that the experts classify correctly, and the labels as the experts'
    logits. A segment with a high loss is skipped. Experts as of FTD (Guo et al. 2024,
    arXiv:2310.05773).
    """
    options: dict[str, Any] = {
        "iterations": 10_000,
        "student_steps": 80,
        "schedule": Fixed(max_start_epoch=3),
        "init": "correct",
        "labels": "soft",
        "label_step": SGD(lr=5, momentum=0.9),
        "skip_above": 1.1,
        "ema": 0.995,
    }
    return mtt(**(options | changes))


def pad(**changes: Any) -> Recipe:
    """Return PAD: DATM without the shallow half of the layers in the loss.

    It is for ten images per class. The fraction counts layers from the input (Li et al. 2024, arXiv:2408.03360).
    """
    options: dict[str, Any] = {
        "skip_layers": 0.5,
        "schedule": StepwiseWindow(every=100, first_max_start_epoch=9, max_start_epoch=19),
        "label_step": SGD(lr=2, momentum=0.9),
        "skip_above": 1.0,
        "ema": 0.9995,
    }
    return datm(**(options | changes))


def att(**changes: Any) -> Recipe:
    """Return ATT: match after the student step that ends nearest to the target.

    Liu et al. 2024, arXiv:2407.14245.
    """
    return mtt(**({"student_steps": 80, "expert_epochs": 4, "match_at": "nearest"} | changes))


def mct(**changes: Any) -> Recipe:
    """Return MCT: MTT along the line between an expert's first and last parameters.

    Only these two need to be kept (Zhong et al. 2024, arXiv:2406.19827).
    """
    return mtt(**({"trajectories": "straight", "start_epochs": "continuous"} | changes))


def tesla(**changes: Any) -> Recipe:
    """Return TESLA: MTT without the second derivatives along the student's path.

    The gradient is approximate; `engine="exact"` needs as little memory (Cui et al. 2023,
    arXiv:2211.10586).
    """
    options: dict[str, Any] = {
        "engine": "constant-adjoint",
        "image_step": SGD(lr=1000, momentum=0.5),
        "schedule": Fixed(max_start_epoch=4),
    }
    return mtt(**(options | changes))
