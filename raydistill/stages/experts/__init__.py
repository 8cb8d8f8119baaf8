"""The experts stage: train networks and store their trajectories."""

from raydistill.table import DISTIL, Kind, Stage

STAGE = Stage(
    name="experts",
    group=DISTIL,
    help="Train the expert networks and store their trajectories.",
    example="raydistill experts demo",
    page="tutorial.md",
    kinds=(
        Kind(
            "trajectories",
            "set of expert trajectories",
            "raydistill.stages.experts.artifact:TrajectoryStore",
            look={"Accuracy by epoch": "experts.png"},
            then="distill CONFIG",
        ),
    ),
    spec=lambda plan: plan.trajectories,
    run="raydistill.stages.experts.stage:experts",
    purpose="train networks on all training galaxies",
)
