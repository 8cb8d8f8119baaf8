"""The predict stage: write the class probabilities of every picture of a survey."""

from raydistill.table import SURVEY, Argument, Kind, Stage

STAGE = Stage(
    name="predict",
    group=SURVEY,
    help="""Predict the class of every picture of a survey.

The trained experts of CONFIG must exist. The result has mean and spread of the class
probabilities and the features of each picture.""",
    example="raydistill predict demo demo",
    page="how-to/predict.md",
    kinds=(
        Kind(
            "predictions",
            "set of predictions",
            "raydistill.stages.predict.artifact:PredictionSet",
            look={"Probabilities and features": "data"},
            then="hunt CONFIG",
        ),
    ),
    spec="raydistill.stages.predict.artifact:predictions_spec",
    run="raydistill.stages.predict.stage:predict",
    purpose="let the experts predict the class of each galaxy",
    argument=Argument("predict.survey", "SURVEY", defaults_to_config=True),
)
