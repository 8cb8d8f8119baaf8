"""The stage `sample`: synthetic galaxies from a generator."""

from raydistill.table import GENERATE, Kind, Stage

STAGE = Stage(
    name="sample",
    group=GENERATE,
    help="""Make synthetic galaxies: sample, inject, or simulate.

`sample.source` in the config says where they come from, by default the generator. Its
`sample.conditions` say what they show: classes, answers of volunteers, a table, or galaxies of the
survey with some answers changed. Every row and picture says that it is synthetic.""",
    example="raydistill sample demo_diffusion",
    page="how-to/sample.md",
    kinds=(
        Kind(
            "synthetic",
            "synthetic set",
            "raydistill.stages.sample.artifact:SyntheticSet",
            look={"Pictures": "grid.png"},
            then="audit CONFIG",
        ),
    ),
    spec=lambda plan: plan.synthetic,
    run="raydistill.stages.sample.stage:sample",
    purpose="make synthetic galaxies",
)
