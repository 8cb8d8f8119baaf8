"""A network of timm is evaluated on a distilled set, and distilled from.

Workers build it by its name.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import safetensors.torch
from ray_tools import SILENT, below, copy_of, tiny

from raydistill.learning.timm_networks import Timm
from raydistill.pipeline.plan import Plan
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.stage import distill
from raydistill.stages.evaluate.artifact import EvaluationReport
from raydistill.stages.evaluate.stage import evaluate
from raydistill.stages.experts.stage import experts

if importlib.util.find_spec("timm") is None:
    pytest.skip("needs the package timm", allow_module_level=True)

MODEL = "test_resnet"  # takes 16 pixels; has batch norm


@pytest.mark.long
def test_networks_of_timm_are_evaluated_with_and_without_weights(tiny_root: Path, tmp_path: Path) -> None:
    weights = tmp_path / "encoder.safetensors"
    whole = Timm(model=MODEL)._create(5, 16, 3).state_dict()
    safetensors.torch.save_file(whole, weights)
    root = copy_of(tiny_root, tmp_path / "runs", "survey", "curated", "trajectories", "distilled")
    both = f"[{{kind: timm, model: {MODEL}}}, {{kind: timm, model: {MODEL}, weights: {weights}}}]"
    config = tiny(root, f"evaluate.other_networks={both}", "evaluate.num_networks=1", "evaluate.baselines=[class_mean]")
    before = Plan(config).evaluation.identity
    evaluate(Plan(config), SILENT)
    report = EvaluationReport.open(str(below(config, "evaluation")))
    names = {pair["network"] for pair in report.summary["distilled"]["all"]}
    assert names == {"convnet-d2-w8", MODEL, f"{MODEL}-encoder"}
    safetensors.torch.save_file({name: value + 1 for name, value in whole.items()}, weights)
    assert Plan(config).evaluation.identity != before  # other weights, another evaluation


@pytest.mark.long
def test_network_of_timm_is_distilled(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated")
    config = tiny(root, f"network={{kind: timm, model: {MODEL}}}", "distill.iterations=2", "experts.num_experts=1")
    experts(Plan(config), SILENT)
    distill(Plan(config), SILENT)
    images = DistilledSet.open(str(below(config, "distilled"))).normalised_images
    assert images.shape == (5, 3, 16, 16)
    assert images.isfinite().all()
