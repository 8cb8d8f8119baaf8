"""The distill stage: match expert trajectories with a few synthetic images."""

from raydistill.table import DISTIL, Kind, Stage

STAGE = Stage(
    name="distill",
    group=DISTIL,
    help="Distil a few images per class that match the trajectories.",
    example="raydistill distill demo distill.iterations=200",
    page="tutorial.md",
    kinds=(
        Kind(
            "distilled",
            "distilled set",
            "raydistill.stages.distill.artifact:DistilledSet",
            look={"Prototypes beside images of their class": "atlas.png", "Loss and accuracy": "history.png"},
            then="evaluate CONFIG",
            revision=2,
        ),
    ),
    spec=lambda plan: plan.distilled,
    run="raydistill.stages.distill.stage:distill",
    purpose="make a few images that train a network as all those galaxies do",
)
