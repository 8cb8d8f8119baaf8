"""The augment stage: train on real, synthetic and distilled galaxies, and compare."""

from raydistill.table import GENERATE, Kind, Stage

STAGE = Stage(
    name="augment",
    group=GENERATE,
    help="""Compare classifiers with and without synthetic galaxies.

`augment` in the config has the sets, the numbers of labelled galaxies and the methods. All
classifiers take the same number of steps.""",
    example="raydistill augment demo_diffusion",
    page="how-to/augment.md",
    kinds=(
        Kind(
            "augmentation",
            "comparison of training sets",
            "raydistill.stages.augment.artifact:AugmentationReport",
            look={"Accuracy by labelled galaxies": "few_shot.png"},
            revision=2,
        ),
    ),
    spec="raydistill.stages.augment.artifact:augmentation_spec",
    run="raydistill.stages.augment.stage:augment",
    show="raydistill.stages.augment.artifact:augmentation_text",
)
