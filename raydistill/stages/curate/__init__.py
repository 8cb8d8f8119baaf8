"""The curate stage: check and write the images and labels of selected galaxies."""

from raydistill.table import SURVEY, Kind, Stage

STAGE = Stage(
    name="curate",
    group=SURVEY,
    help="Select classes and galaxies; check, crop and resize images.",
    example="raydistill curate demo",
    page="how-to/own-survey.md",
    kinds=(
        Kind(
            "curated",
            "curated set",
            "raydistill.stages.curate.artifact:CuratedSet",
            look={"Pictures of each class": "examples.png"},
            then="experts CONFIG",
        ),
    ),
    spec=lambda plan: plan.curated,
    run="raydistill.stages.curate.stage:curate",
    purpose="choose galaxies of each class, and check, crop and resize their pictures",
)
