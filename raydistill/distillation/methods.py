"""The published methods of trajectory matching, each as the recipe of its paper.

Every function returns a `Recipe` with the paper's settings for CIFAR-10 and one image per class
(`pad`: ten), which are those of `configs/methods/NAME.yaml`. Keywords replace its options:
`mtt(iterations=100)`. A method also sets how the experts are trained; its docstring says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml
from pydantic import TypeAdapter

from raydistill import shipped
from raydistill.distillation.recipe import Recipe


def mtt(**changes: Any) -> Recipe:
    """Return MTT: match expert segments that start in a fixed window.

    The loss is the squared distance of the student's end to the expert's target, divided by that of
    the expert's start (Cazenavette et al. 2022, arXiv:2203.11932, eq. 2). The experts take plain SGD.
    """
    return _preset("mtt", changes)


def stm(**changes: Any) -> Recipe:
    """Return STM: the window grows when the loss after it changes significantly.

    One student learning rate per start epoch is learned (Guan et al. 2023, arXiv:2311.17967). The
    experts take plain SGD.
    """
    return _preset("stm", changes)


def ftd(**changes: Any) -> Recipe:
    """Return FTD: MTT with a moving average of the images.

    Its experts seek flat minima with GSAM: `Training(flat=SharpnessAware(rho=0.01, alpha=0.3))` (Du et
    al. 2023, arXiv:2211.11004).
    """
    return _preset("ftd", changes)


def datm(**changes: Any) -> Recipe:
    """Return DATM: images that the experts know, soft labels, skipped steps.

    The images begin as real ones that the experts classify correctly, and the labels as the experts'
    logits. A segment with a high loss is skipped. Experts as of FTD (Guo et al. 2024,
    arXiv:2310.05773).
    """
    return _preset("datm", changes)


def pad(**changes: Any) -> Recipe:
    """Return PAD: DATM without the shallow half of the layers in the loss.

    It is for ten images per class. The fraction counts layers from the input (Li et al. 2024, arXiv:2408.03360).
    """
    return _preset("pad", changes)


def att(**changes: Any) -> Recipe:
    """Return ATT: match after the student step that ends nearest to the target.

    Liu et al. 2024, arXiv:2407.14245.
    """
    return _preset("att", changes)


def mct(**changes: Any) -> Recipe:
    """Return MCT: MTT along the line between an expert's first and last parameters.

    Only these two need to be kept (Zhong et al. 2024, arXiv:2406.19827).
    """
    return _preset("mct", changes)


def tesla(**changes: Any) -> Recipe:
    """Return TESLA: MTT without the second derivatives along the student's path.

    The gradient is approximate; `engine="exact"` needs as little memory (Cui et al. 2023,
    arXiv:2211.10586).
    """
    return _preset("tesla", changes)


def _preset(name: str, changes: Mapping[str, Any]) -> Recipe:
    return replace(TypeAdapter(Recipe).validate_python(_options(name)), **changes)


def _options(name: str) -> dict[str, Any]:
    """Return the options of a shipped preset, over those of the one that it extends."""
    path = shipped.find(f"methods/{name}")
    assert path is not None
    preset = yaml.safe_load(path.read_text())
    inherited = _options(preset["extends"]) if "extends" in preset else {}
    return {**inherited, **preset["distill"]}
