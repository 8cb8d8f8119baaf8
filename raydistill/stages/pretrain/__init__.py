"""The pretrain stage; see `stage`."""

from raydistill.table import DISTIL, Kind, Stage

STAGE = Stage(
    name="pretrain",
    group=DISTIL,
    help="""Train an encoder on pictures without labels.

Two views of a picture get similar features. The galaxies of `pretrain.extra_sets` are used too. If
the survey has classes, a linear head on the features is scored while the training runs.""",
    example="raydistill pretrain demo",
    page="how-to/pretrain.md",
    kinds=(
        Kind(
            "encoder",
            "encoder",
            "raydistill.stages.pretrain.artifact:EncoderArtifact",
            look={"Loss and accuracy": "history.png"},
            then="run CONFIG --to predict features=FOLDER",
        ),
    ),
    spec=lambda plan: plan.pretraining,
    run="raydistill.stages.pretrain.stage:pretrain",
    purpose="train a network that describes pictures, without labels",
)
