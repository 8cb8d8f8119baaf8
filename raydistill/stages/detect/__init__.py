"""The detect stage: train a detector on synthetic fields, and test it."""

from raydistill.table import GENERATE, Argument, Kind, Stage

STAGE = Stage(
    name="detect",
    group=GENERATE,
    help="""Train a detector on synthetic galaxies; test it on frames of the survey.

SET is the folder of a synthetic set; by default that of `raydistill sample CONFIG`. The
galaxies are placed into larger fields with exact boxes and masks, which are written in the
format of COCO.""",
    example="raydistill detect demo_diffusion detect.steps=800",
    page="how-to/detect.md",
    kinds=(
        Kind(
            "detection",
            "detection report",
            "raydistill.stages.detect.artifact:DetectionReport",
            look={"Frames with boxes": "frames.png"},
        ),
    ),
    spec="raydistill.stages.detect.specs:detection_spec",
    run="raydistill.stages.detect.stage:detect",
    show="raydistill.stages.detect.artifact:detection_text",
    argument=Argument("detect.set", "SET"),
)
