"""The evaluate stage: train fresh networks on each training set, and test them."""

from raydistill.table import DISTIL, Kind, Stage

STAGE = Stage(
    name="evaluate",
    group=DISTIL,
    help="""Compare networks trained on the distilled set with baselines.

Train fresh networks on the distilled set and on every baseline, and evaluate them on test
galaxies. distilled=PATH evaluates another distilled set on this config's survey.""",
    example="raydistill evaluate demo",
    page="how-to/compare.md",
    kinds=(
        Kind(
            "evaluation",
            "evaluation",
            "raydistill.stages.evaluate.artifact:EvaluationReport",
            look={"Accuracy": "accuracy.png", "Other networks": "networks.png", "Confusion matrix": "confusion.png"},
            then="analyse CONFIG",
            revision=3,
        ),
    ),
    spec=lambda plan: plan.evaluation,
    run="raydistill.stages.evaluate.stage:evaluate",
    show="raydistill.stages.evaluate.report.printing:evaluation_report",
    purpose="train new networks on these images and on others, and test them",
)
