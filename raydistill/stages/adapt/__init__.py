"""The adapt stage: align networks of one survey with another, and report the gain."""

from raydistill.table import SURVEY, Argument, Kind, Stage

STAGE = Stage(
    name="adapt",
    group=SURVEY,
    help="""Adapt networks to another survey without its labels.

Networks trained on CONFIG's survey are aligned with the unlabelled galaxies of TARGET. The
report compares source, target without and with the alignment, and networks trained on the
target's labels, which nothing else uses. Both curated sets must exist.""",
    example="raydistill adapt adapt_simulated adapt_simulated_target",
    page="how-to/adapt.md",
    kinds=(
        Kind(
            "adaptation",
            "report of an adaptation",
            "raydistill.stages.adapt.artifact:AdaptationReport",
            look={"Accuracy on both surveys": "adaptation.png", "Rejected galaxies": "rejected.png"},
            revision=5,
        ),
    ),
    spec="raydistill.stages.adapt.artifact:adaptation_spec",
    run="raydistill.stages.adapt.stage:adapt",
    show="raydistill.stages.adapt.artifact:adaptation_report",
    argument=Argument("adapt.target", "TARGET"),
)
