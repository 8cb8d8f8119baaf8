"""The simulate stage: render a survey whose truth is known."""

from raydistill.table import SURVEY, Kind, Stage

STAGE = Stage(
    name="simulate",
    group=SURVEY,
    help="Render a simulated survey, with simulated volunteers' votes.",
    example="raydistill simulate demo",
    page="tutorial.md",
    kinds=(
        Kind(
            "survey",
            "simulated survey",
            "raydistill.stages.simulate.artifact:Survey",
            look={"Pictures": "images", "Votes": "catalog.csv"},
            then="curate CONFIG",
        ),
    ),
    spec=lambda plan: plan.survey,
    run="raydistill.stages.simulate.stage:simulate",
    purpose="render galaxies, with simulated votes of volunteers on their shapes",
)
