"""A generator on disk: parameters and summary as written, an error for any damage."""

from __future__ import annotations

import json

import pytest
import torch

from raydistill.artifacts.display import open_artifact
from raydistill.artifacts.manifest import commit
from raydistill.diffusion.conditions import ConditionGroup, ConditionLayout, Conditions
from raydistill.diffusion.model import Generator, build_generator
from raydistill.diffusion.network_options import Mlp, UNet
from raydistill.diffusion.options import ComponentSpace, Sampling
from raydistill.diffusion.processes import EDM, VPrediction
from raydistill.diffusion.sampling import sample
from raydistill.errors import ArtifactCorrupt
from raydistill.stages.curate.select.conditions import ConditionEncoding, Scale
from raydistill.stages.generate.artifact import KIND, MODEL, SUMMARY, GeneratorArtifact, GeneratorSummary, write_model
from raydistill.stages.generate.config import GeneratorModel
from raydistill.storage import Folder

LAYOUT = ConditionLayout((ConditionGroup("class", 2, ("Er", "Sb")), ConditionGroup("size", 1)))
MODELS = {
    "unet": GeneratorModel(UNet(channels=(4, 8)), EDM(sigma_max=40.0)),
    "mlp": GeneratorModel(Mlp(width=8, blocks=1), VPrediction(), ComponentSpace(components=3)),
}


def write(folder: Folder, model: GeneratorModel) -> Generator:
    images = torch.randint(0, 256, (6, 8, 8, 3), generator=torch.Generator().manual_seed(0)).byte()
    generator = build_generator(model, LAYOUT, 8, seed=1, images_NHWC=images)
    summary = GeneratorSummary(
        survey="survey", simulated=True, image_size=8, crop_fraction=0.5, aligned=False, class_names=("Er", "Sb"),
        tree="", encoding=ConditionEncoding(LAYOUT, {"size": Scale((0.5,), (2.0,))}), model=model,
        sampling=Sampling(steps=3), num_images=6, num_parameters=10, steps=5, batch_size=4,
    )  # fmt: skip
    write_model(folder, generator)
    folder.write(SUMMARY, summary.to_json())
    commit(folder, kind=KIND, identity="0" * 64, config={}, parents={}, seed=0, uris={})
    return generator.eval()


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_opened_generator_samples_the_same_images(folder: Folder, model: GeneratorModel) -> None:
    written = write(folder, model)
    opened = open_artifact(folder)
    assert isinstance(opened, GeneratorArtifact)
    assert opened.summary.model.network == model.network
    assert (opened.summary.sampling, opened.class_names) == (Sampling(steps=3), ["Er", "Sb"])
    assert opened.tree.name == "gz2"
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    conditions = Conditions.of(LAYOUT, 2, **{"class": torch.eye(2)})
    assert torch.equal(*(sample(g, conditions, noise, opened.summary.sampling) for g in (written, opened.load())))


def test_damaged_files_raise_errors_that_name_them(folder: Folder) -> None:
    write(folder, MODELS["mlp"])
    model, summary = folder.read(MODEL), json.loads(folder.read(SUMMARY))
    folder.write(MODEL, model[:-1] + bytes([model[-1] ^ 1]))
    with pytest.raises(ArtifactCorrupt, match=MODEL):
        GeneratorArtifact.open(folder, verify=False).load()
    folder.write(MODEL, model)
    summary["model"]["network"]["width"] = 16
    folder.write(SUMMARY, json.dumps(summary).encode())
    with pytest.raises(ArtifactCorrupt, match="does not fit the architecture"):
        GeneratorArtifact.open(folder, verify=False).load()
    summary["model"]["network"]["kind"] = "unknown"
    folder.write(SUMMARY, json.dumps(summary).encode())
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        GeneratorArtifact.open(folder, verify=False)


def test_a_generator_of_an_older_release_is_not_taken_for_one_without_conditions(folder: Folder) -> None:
    write(folder, MODELS["mlp"])
    summary = json.loads(folder.read(SUMMARY))
    summary["encoding"] = {**summary["encoding"].pop("layout"), **summary["encoding"]}
    folder.write(SUMMARY, json.dumps(summary).encode())
    with pytest.raises(ArtifactCorrupt, match=r"encoding\.layout: Field required\); make it again"):
        GeneratorArtifact.open(folder, verify=False)
