"""The generate stage; see `stage`."""

from raydistill.table import GENERATE, Kind, Stage

STAGE = Stage(
    name="generate",
    group=GENERATE,
    help="""Train a generator of galaxies on the curated set.

`generate.conditions` in the config says what it is given of a galaxy: votes, class, size,
colour. Previews show samples beside galaxies of the survey.""",
    example="raydistill generate demo_diffusion",
    page="how-to/generate.md",
    kinds=(
        Kind(
            "generator",
            "generator",
            "raydistill.stages.generate.artifact:GeneratorArtifact",
            look={"Samples beside galaxies of the survey": "previews"},
            then="sample CONFIG",
        ),
    ),
    spec=lambda plan: plan.generator,
    run="raydistill.stages.generate.stage:generate",
    purpose="train a network that makes pictures of galaxies",
)
