"""The public API on real Ray: artifacts of stages, and conversion for other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from astropy import units
from astropy.io import fits
from ray_tools import TINY

import raydistill as rd


@pytest.fixture(scope="module")
def config(tiny_root: Path) -> rd.Config:
    return rd.load_config(TINY, f"output={tiny_root}", "tracking.enabled=false")


def test_stages_return_the_artifacts_that_open_reads(config: rd.Config) -> None:
    stages = {
        rd.simulate: rd.Survey,
        rd.curate: rd.CuratedSet,
        rd.experts: rd.TrajectoryStore,
        rd.distill: rd.DistilledSet,
        rd.run: rd.EvaluationReport,
    }
    for stage, kind in stages.items():
        artifact = stage(config)
        assert isinstance(artifact, kind)
        opened = rd.open(artifact.folder.uri)
        assert type(opened) is kind
        assert opened.manifest == artifact.manifest


def test_survey_gives_its_catalog_and_truth_row_by_row(config: rd.Config) -> None:
    survey = rd.simulate(config)
    catalog, truth = survey.to_pandas(), survey.truth()
    assert list(catalog["objid"]) == list(truth["objid"])
    assert len(catalog) == config.survey.num_galaxies


def test_curated_set_converts_to_torch_pandas_and_astropy(config: rd.Config) -> None:
    curated = rd.curate(config)
    images, labels = curated.to_torch("train").tensors
    assert images.dtype == torch.float32
    assert images.shape[1:] == (3, *[curated.summary.image_size] * 2)
    back = curated.normalisation.invert(images) * 255
    assert torch.allclose(back, curated.load("train").images_NHWC.float(), atol=1e-3)
    frame = curated.to_pandas()
    assert list(frame.query("split == 'train'")["label"]) == labels.tolist()
    table = curated.to_astropy()
    assert table["petro_r90"].unit == units.arcsec
    assert table["ra"].unit == units.deg
    assert list(table["object_id"]) == list(frame["object_id"])
    assert table["votes"].shape == (len(frame), 37)


def test_distilled_set_gives_images_for_people_networks_and_fits(config: rd.Config, tmp_path: Path) -> None:
    distilled = rd.distill(config)
    size = distilled.images.shape[-1]
    assert distilled.images.shape == (len(distilled.class_names) * distilled.images_per_class, 3, size, size)
    assert float(distilled.images.min()) >= 0
    assert float(distilled.images.max()) <= 1
    images, targets = distilled.to_torch().tensors
    assert torch.equal(images, distilled.normalised_images)
    assert torch.equal(targets.argmax(dim=1), distilled.labels)
    distilled.to_fits(tmp_path / "prototypes.fits")
    with fits.open(tmp_path / "prototypes.fits") as hdus:
        first = np.asarray(hdus[1].data)[:, ::-1]  # FITS counts rows from the bottom
    assert np.allclose(np.clip(first, 0, 1), distilled.images[0].numpy(), atol=1e-6)
    with pytest.raises(OSError, match="already exists"):
        distilled.to_fits(tmp_path / "prototypes.fits")


def test_report_table_repeats_the_figures_of_the_report(config: rd.Config) -> None:
    report = rd.run(config)
    table = report.table()
    row = table[table["training_set"] == "distilled"].iloc[0]
    assert row["balanced_accuracy"] == report.summary["distilled"]["balanced_accuracy"]["mean"]
    assert set(table["training_set"]) == set(report.summary)
