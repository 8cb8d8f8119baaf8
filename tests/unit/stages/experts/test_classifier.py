"""A stored classifier prepares and classifies pictures as the run that trained it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.images import prepare
from raydistill.learning.architectures import AnswerNetwork
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.normalise import AnyNormalisation, PixelSums
from raydistill.stages.experts.classify.classifier import PictureClassifier
from raydistill.storage import Folder
from tests import zoo
from tests.unit.stages.classifier_tools import NAMES, RGB, SIZE, classifier, pictures


def whitening() -> AnyNormalisation:
    sums = PixelSums(3 * SIZE**2)
    sums.add(torch.from_numpy(pictures(300, SIZE)))
    return sums.whitening(0.1)


@pytest.mark.parametrize("normalisation", [RGB, whitening()])
def test_a_saved_classifier_gives_the_same_probabilities(normalisation: AnyNormalisation, tmp_path: Path) -> None:
    stored = classifier(normalisation)
    stored.save(Folder(str(tmp_path)))
    images = pictures(5, SIZE)
    frame = PictureClassifier.load(Folder(str(tmp_path))).predict(images)
    assert frame.equals(stored.predict(images))
    network = build_network(stored.architecture, len(NAMES), SIZE)
    logits = torch.stack(
        [network(theta, normalisation.apply(torch.from_numpy(images))) for theta in stored.parameters_EP]
    )
    mean = logits.double().softmax(dim=2).mean(dim=0)
    expected = stored.calibration.apply(mean.log().detach().numpy())
    np.testing.assert_allclose(frame[list(NAMES)], expected, atol=1e-6)
    assert frame.predicted_class.tolist() == [NAMES[k] for k in expected.argmax(axis=1)]


def test_a_repeated_index_gives_one_row_for_each_picture(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{n}.png") for n in range(2)]
    for path, picture in zip(paths, pictures(2, SIZE), strict=True):
        Image.fromarray(picture).save(path)
    twice = pd.DataFrame({"path": paths}, index=[7, 7])
    frame = classifier().predict(twice)
    assert frame.index.tolist() == [7, 7]
    assert frame.reset_index(drop=True).equals(classifier().predict(twice.reset_index(drop=True)))


def test_experts_with_an_output_per_answer_are_stored_too(tmp_path: Path) -> None:
    base = zoo.NETWORKS["instance"]
    assert not isinstance(base, AnswerNetwork)
    answers = AnswerNetwork(base=base, questions=(2, 2), paths=(((0,),), ((1,), (2,)), ((1,), (3,))))
    network = build_network(answers, len(NAMES), SIZE)
    stored = replace(classifier(), architecture=answers, parameters_EP=initial_parameters(network, 1)[None])
    stored.save(Folder(str(tmp_path)))
    loaded = PictureClassifier.load(Folder(str(tmp_path)))
    assert loaded.architecture == answers
    assert loaded.predict(pictures(3, SIZE)).equals(stored.predict(pictures(3, SIZE)))


def test_larger_pictures_and_files_are_prepared_as_curate_does(tmp_path: Path) -> None:
    stored, large = classifier(), pictures(3, 20)
    expected = stored.predict(np.stack([prepare(picture, 0.5, SIZE) for picture in large]))
    assert stored.predict(large).equals(expected)
    paths, contents = [], []
    for n, picture in enumerate(large):
        Image.fromarray(picture).save(tmp_path / f"{n}.png")
        paths.append(str(tmp_path / f"{n}.png"))
        contents.append((tmp_path / f"{n}.png").read_bytes())
    named = stored.predict(pd.DataFrame({"path": paths}, index=["a", "b", "c"]))
    assert named.index.tolist() == ["a", "b", "c"]
    assert named.reset_index(drop=True).equals(expected)
    assert stored.predict(pd.DataFrame({"image": contents})).equals(expected)


def test_files_that_cannot_be_used_have_a_reason_and_no_class() -> None:
    stream = io.BytesIO()
    Image.fromarray(pictures(1, 20)[0]).save(stream, "PNG")
    table = pd.DataFrame({"image": [b"no picture", stream.getvalue(), b""]})
    frame = classifier().predict(table)
    assert frame.reason.tolist() == ["corrupt", None, "empty"]
    assert [name is None for name in frame.predicted_class] == [True, False, True]
    assert frame[list(NAMES)].isna().all(axis=1).tolist() == [True, False, True]
    assert classifier().predict(table[:1]).predicted_class.tolist() == [None]


def test_other_inputs_are_rejected_in_a_sentence() -> None:
    for wrong, said in (
        (pictures(2, SIZE) / 255, "the array is float64 (2, 8, 8, 3)"),
        (pictures(2, SIZE)[0], "the array is uint8 (8, 8, 3)"),
        (pd.DataFrame({"file": ["a"]}), "the table has the columns ['file']"),
    ):
        with pytest.raises(CatalogError, match="give uint8") as raised:
            classifier().predict(wrong)
        assert said in str(raised.value)
