"""Sources of samples without Ray: pools, blocks of a worker, starts of samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raydistill.artifacts.tables import decode_images
from raydistill.config import Config
from raydistill.errors import ConfigError
from raydistill.galaxies.classes import GZ2_FIVE, ClassTree
from raydistill.galaxies.trees import GZ2
from raydistill.simulation.config import SDSS, SimulatedSurvey, Telescope
from raydistill.simulation.injections import Star
from raydistill.stages.sample.artifact import NO_CLASS
from raydistill.stages.sample.config import GeneratorSource, InjectionSource, SimulatorSource
from raydistill.stages.sample.sources.galaxies import Survey
from raydistill.stages.sample.sources.kinds import open_hosts, open_simulator, telescope_of
from raydistill.stages.sample.sources.pools import Starts
from raydistill.stages.sample.sources.requests import Block, Requests
from raydistill.stages.sample.worker import InjectedPictures, SimulatedPictures
from raydistill.storage import Folder
from raydistill.surveys.survey import Preparation
from tests.unit.stages.sample_tools import CLASSES, NAMES, SIZE, write_curated


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return Survey(write_curated(Folder(tmp_path_factory.mktemp("curated") / "c")), GZ2, CLASSES)


@pytest.fixture(scope="module")
def config() -> Config:
    return Config(name="x", survey=SimulatedSurvey())


def test_hosts_are_training_galaxies_of_their_class(survey: Survey, config: Config) -> None:
    pools, model = open_hosts(InjectionSource(), survey, config)
    assert [pool.name for pool in pools] == list(NAMES)
    assert [pool.galaxies.origins for pool in pools] == [
        tuple(f"g{number:02d}" for number in range(10 * label + 1, 10 * label + 6)) for label in range(2)
    ]  # galaxy 0 of each class is a test galaxy
    assert model.contrast == pytest.approx(8.81, abs=0.01)
    _, model = open_hosts(InjectionSource(model=Star(contrast=3.0)), survey, config)
    assert model.contrast == 3.0


def test_a_block_of_injections_has_pictures_and_truth(survey: Survey, config: Config) -> None:
    pools, model = open_hosts(InjectionSource(model=Star(level=(1.0, 1.0), distance=(0.0, 0.5))), survey, config)
    requests = Requests(pools, NAMES, "0123456789abcdef", None, None, 5, made_by="injection")
    request = requests.table(Block(1, 0), np.arange(4))
    source = InjectedPictures(model, SIZE)
    images, known = source.make(request, "cpu")
    assert images.shape == (4, SIZE, SIZE, 3)
    originals = {row["object_id"]: row["image"] for row in survey.curated.table("train").to_pylist()}
    assert request["picture"].to_pylist() == [originals[name] for name in request["origin"].to_pylist()]
    pictures = decode_images(request["picture"], SIZE).numpy()
    for image, picture, parameters in zip(images, pictures, known["parameters"], strict=True):
        np.testing.assert_array_equal(model.apply(picture, dict(parameters)), image)
    assert source.describe(request)[0] == f"star injected into {request['origin'][0]}"
    assert request["generator"].null_count == request["votes"].null_count == 4


def test_examples_are_no_hosts(survey: Survey, config: Config) -> None:
    source = InjectionSource(label="disk", examples=("g01", "g12"))
    (pool,), model = open_hosts(source, survey, config)
    assert set(pool.galaxies.labels_N) == {1}
    assert len(pool.galaxies) == 8
    assert not {"g01", "g12"} & set(pool.galaxies.origins)
    assert model.ranges() != source.model.ranges()
    for name in ("g00", "g99"):  # a test galaxy, and none
        with pytest.raises(ConfigError, match=f"the training split has no galaxy '{name}'"):
            open_hosts(replace(source, examples=(name,)), survey, config)
    everything = tuple(f"g{number:02d}" for number in range(1, 6))
    with pytest.raises(ConfigError, match="the class 'round' has no galaxy to take"):
        open_hosts(InjectionSource(examples=everything), survey, config)


def test_simulated_classes_have_the_most_special_class_on_their_path(survey: Survey) -> None:
    pools = open_simulator(SimulatorSource(), survey)
    assert [pool.name for pool in pools] == ["round", "disk"]
    assert [pool.columns["simulated_class"].to_pylist() for pool in pools] == [[0, 1, 2], [3, 4, 5, 6, 7, 8]]
    round_only = Survey(survey.curated, GZ2, ClassTree("one", GZ2_FIVE.classes[:1]))
    assert [pool.columns["simulated_class"].to_pylist() for pool in open_simulator(SimulatorSource(), round_only)] == [
        [0]
    ]
    five = Survey(survey.curated, GZ2, GZ2_FIVE)
    with pytest.raises(ConfigError, match="the curated set has no class for the simulator's 'lens'"):
        open_simulator(SimulatorSource(classes=("lens",)), five)
    (labelled,) = open_simulator(SimulatorSource(classes=("lens",), label="disk"), survey)
    assert (labelled.name, labelled.columns["simulated_class"].to_pylist()) == ("disk", [9])


def test_simulator_has_the_given_parameters(survey: Survey) -> None:
    source = SimulatorSource(classes=("smooth_round", "bar_spiral", "lens"), label="disk")
    requests = Requests(open_simulator(source, survey), NAMES, "0123456789abcdef", None, None, 5, made_by="simulator")
    request = requests.table(Block(0, 0), np.arange(3))
    ranges = {"dust_lane": (0.5, 1.0), "num_arms": (3.0, 3.0)}
    pictures = SimulatedPictures(ranges, Telescope(psf_fwhm=0.65), 48, Preparation(SIZE, 0.5, True, min_size=1))
    images, known = pictures.make(request, "cpu")
    truths = [dict(truth) for truth in known["parameters"]]
    assert images.shape == (3, SIZE, SIZE, 3)
    assert [truth["class"] for truth in truths] == [0, 5, 9]
    assert all(0.5 <= truth["dust_lane"] <= 1 and truth["num_arms"] == 3 for truth in truths)
    assert max(truth["psf_fwhm"] for truth in truths) < 1
    assert truths[2]["einstein_radius"] > 0
    np.testing.assert_array_equal(pictures.make(request.slice(1, 1), "cpu")[0][0], images[1])


def test_the_telescope_is_that_of_the_simulated_survey(config: Config) -> None:
    fine = Telescope(pixel_scale=0.262)
    assert telescope_of(SimulatorSource(), replace(config, survey=SimulatedSurvey(telescope=fine))) == fine
    assert (
        telescope_of(SimulatorSource(telescope=SDSS), replace(config, survey=SimulatedSurvey(telescope=fine))) == SDSS
    )


def test_a_wrong_crop_of_the_simulator_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"crop_fraction must lie in \(0, 1\], got 1.5"):
        SimulatorSource(crop_fraction=1.5)


def test_samples_start_from_their_galaxy_their_class_or_given_classes(survey: Survey) -> None:
    assert Starts.read(GeneratorSource(), survey) is None
    starts = Starts.read(GeneratorSource(strength=0.5), survey)
    assert starts is not None
    indices = np.arange(60)
    chosen = starts.columns(np.zeros(60, np.int64), ["g13"] * 60, indices, 0)
    assert set(chosen["start"]) == {"g13"}
    drawn = starts.columns(np.ones(60, np.int64), [None] * 60, indices, 0)
    assert set(drawn["start"]) == {f"g{number}" for number in range(11, 16)}
    held_out = starts.columns(np.ones(60, np.int64), ["g10"] * 60, indices, 0)["start"]
    assert held_out == drawn["start"]  # never the picture of a test galaxy
    anything = starts.columns(np.full(60, NO_CLASS), [None] * 60, indices, 0)["start"]
    assert len(set(anything)) == 10
    given = Starts.read(GeneratorSource(strength=0.5, start_classes=("round",)), survey)
    assert given is not None
    assert {name[:2] for name in given.columns(np.ones(60, np.int64), ["g13"] * 60, indices, 0)["start"]} == {"g0"}
