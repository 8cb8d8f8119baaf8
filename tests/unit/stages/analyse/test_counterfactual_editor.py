"""Changed answers of generated galaxies, and the classifier that accepts them.

The tests run without Ray.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from raydistill.artifacts.manifest import commit
from raydistill.config import Resources
from raydistill.diffusion.model import to_pixels
from raydistill.diffusion.sampling import sample
from raydistill.galaxies.trees import GZ2
from raydistill.seeding import generator as random_generator
from raydistill.stages.analyse.networks import counterfactuals
from raydistill.stages.analyse.networks.counterfactuals import (
    FRACTIONS,
    Editor,
    HeldOut,
    changed_answers,
    classifier_quality,
    predict,
)
from raydistill.stages.analyse.science import vote_classifier
from raydistill.stages.analyse.science.counterfactuals import with_answer
from raydistill.stages.generate.artifact import KIND, GeneratorArtifact
from raydistill.storage import Folder
from tests.unit.stages.sample_tools import SIZE, votes_of, write_curated, write_generator

SMOOTH = 0


@pytest.fixture
def editor(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Editor:
    quick = vote_classifier.VoteTraining(steps=150, batch_size=32, lr=0.01)
    monkeypatch.setattr(counterfactuals, "VoteTraining", lambda **changed: replace(quick, **changed))
    galaxies = write_curated(Folder(tmp_path / "curated"))
    folder = Folder(tmp_path / "generator")

    def finish() -> None:
        commit(folder, kind=KIND, identity="g", config={}, parents={}, seed=0, uris={})

    plan: Any = SimpleNamespace(curated=galaxies, generator=SimpleNamespace(folder=folder, commit=finish))
    write_generator(plan, "votes", "size")
    return Editor(folder.uri, galaxies.folder.uri, GZ2, Resources(), seed=5)


def held_out(count: int, seed: int) -> HeldOut:
    """Return galaxies that are bright where volunteers say smooth."""
    rng = np.random.default_rng(seed)
    votes = np.stack([votes_of(number + 1, number % 2) for number in range(count)]).astype(np.float64)
    smooth = rng.uniform(size=count)
    votes[:, :3] = np.stack([smooth, 1 - smooth, np.zeros(count)], axis=1)
    pixels = 40 + 150 * smooth[:, None, None, None] + rng.normal(0, 15, (count, SIZE, SIZE, 3))
    return HeldOut(pixels.clip(0, 255).astype(np.uint8), votes, votes.copy(), rng.uniform(3, 9, count))


def test_pictures_have_the_same_noise_and_the_asked_fraction(editor: Editor) -> None:
    galaxies = held_out(3, 0)
    classifier = editor.train(held_out(40, 1))
    edited = editor.edit(galaxies, SMOOTH, classifier)
    assert edited.images_FGHWC.shape == (len(FRACTIONS), 3, SIZE, SIZE, 3)
    artifact = GeneratorArtifact.open(editor.generator)
    noise = torch.stack([torch.randn((3, SIZE, SIZE), generator=random_generator(5, "noise", n)) for n in range(3)])
    for step, fraction in enumerate(FRACTIONS):
        votes = np.stack([with_answer(votes_A, SMOOTH, fraction, GZ2) for votes_A in galaxies.votes_NA])
        conditions = artifact.encoding.encode(3, votes_NA=votes, petro_r90_N=galaxies.petro_r90_N)
        expected = to_pixels(sample(artifact.load(), conditions, noise, artifact.summary.sampling))
        np.testing.assert_array_equal(edited.images_FGHWC[step], expected)
    assert (edited.images_FGHWC[0] != edited.images_FGHWC[-1]).any()
    assert edited.predicted_FGA[..., :3].sum(axis=-1) == pytest.approx(1, abs=1e-5)


def test_only_answers_that_the_classifier_predicts_are_changed(editor: Editor) -> None:
    classifier = editor.train(held_out(300, 2))
    measuring = held_out(120, 3)
    predicted = predict(classifier, counterfactuals.CuratedSet.open(editor.curated), measuring.images_NHWC)
    quality = classifier_quality(predicted, measuring.known_NA, seed=0)
    assert quality[SMOOTH].interval.low > 0.8
    assert changed_answers(quality, measuring, GZ2) in ([0], [1])  # the other questions do not follow the pixels
    few = measuring.take(np.arange(10))
    assert changed_answers(quality, few, GZ2) == []
