"""A synthetic set is plain Parquet; each row, id and picture says it is synthetic."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from raydistill.artifacts.display import open_artifact
from raydistill.artifacts.manifest import commit
from raydistill.errors import ArtifactCorrupt
from raydistill.galaxies.pictures.images import encode_png
from raydistill.stages.curate import artifact as curated
from raydistill.stages.sample.artifact import (
    KIND,
    NO_CLASS,
    SCHEMA,
    SyntheticClass,
    SyntheticSet,
    SyntheticSummary,
    object_id,
    partition,
    png_text,
)
from raydistill.storage import Folder

SIZE = 8
GENERATOR = "ab" * 32
SUMMARY = SyntheticSummary(
    survey="a survey", simulated=True, image_size=SIZE, crop_fraction=0.5, aligned=False, mean=(0.1, 0.2, 0.3),
    std=(0.4, 0.5, 0.6), tree="", classes=(SyntheticClass("Er", 4, 2), SyntheticClass("Sb", 0, 0)),
    unlabelled=SyntheticClass("", 1, 1), generator=GENERATOR, condition=(("votes", 37), ("size", 1)), guidance=2.0, steps=20,
    seed=7, min_probability=0.5,
)  # fmt: skip
LABELS = {0: 0, 2: NO_CLASS, 3: 0}  # index -> label


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def row(index: int) -> dict[str, object]:
    labelled = LABELS[index] != NO_CLASS
    text = png_text(f"generator {GENERATOR}", 7, index)
    return {
        "object_id": object_id("0123456789abcdef", index), "class_name": "Er" if labelled else None, "petro_r90": 9.0,
        "confidence": 0.8 if labelled else None, "votes": [0.5] * 37, "image": encode_png(picture(index), text),
        "synthetic": True, "index": index, "condition": [0.5] * 37 + [None], "guidance": 2.0, "origin": None,
        "recognised": 0.9, "generator": GENERATOR, "seed": 7, "made_by": "generator", "start": f"g{index}",
        "parameters": [("depth", 0.5), ("width", float(index))] if index else None, "injected": "dust_lane" if index else None,
    }  # fmt: skip


def write(folder: Folder, summary: SyntheticSummary = SUMMARY, **changed: str) -> None:
    for label in set(LABELS.values()):
        with folder.writing(partition(label)) as path:
            rows = [row(index) | changed for index, k in LABELS.items() if k == label]
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    folder.write("summary.json", summary.to_json())
    commit(folder, kind=KIND, identity="0123456789abcdef", config={}, parents={}, seed=7, uris={})


@pytest.fixture
def samples(folder: Folder) -> SyntheticSet:
    write(folder)
    return SyntheticSet.open(folder)


def test_the_columns_of_a_curated_set_come_first() -> None:
    assert SCHEMA.names[: len(curated.SCHEMA)] == curated.SCHEMA.names
    assert [SCHEMA.field(name).type for name in curated.SCHEMA.names] == curated.SCHEMA.types


def test_the_summary_is_read_as_written(samples: SyntheticSet) -> None:
    assert samples.summary == SUMMARY
    assert samples.summary.synthetic is True
    assert (samples.class_names, samples.num_classes) == (["Er", "Sb"], 2)
    assert (SUMMARY.classes[0].share, SUMMARY.classes[1].share) == (0.5, None)


def test_open_finds_the_kind(samples: SyntheticSet) -> None:
    assert isinstance(open_artifact(samples.folder), SyntheticSet)


def test_rows_are_sorted_by_index_across_classes(samples: SyntheticSet) -> None:
    loaded = samples.load()
    assert loaded.object_ids == [f"synthetic-01234567-000000{index}" for index in LABELS]
    assert loaded.labels_N.tolist() == list(LABELS.values())
    np.testing.assert_array_equal(loaded.images_NHWC.numpy(), [picture(index) for index in LABELS])
    np.testing.assert_array_equal(loaded.confidence_N, [0.8, np.nan, 0.8])


def test_every_reader_sees_that_rows_are_synthetic(samples: SyntheticSet) -> None:
    assert samples.to_pandas()["synthetic"].tolist() == [True] * 3
    assert samples.table(["synthetic"])["synthetic"].to_pylist() == [True] * 3
    table = samples.to_astropy()
    assert list(table["synthetic"]) == [True] * 3
    assert table.meta["SYNTH"] is True
    assert str(table["petro_r90"].unit) == "arcsec"
    assert table["votes"].shape == (3, 37)


def test_pandas_alone_reads_the_files_and_sees_that_they_are_synthetic(folder: Folder) -> None:
    if not folder.is_local:
        pytest.skip("pandas knows disks and clouds, not fsspec's memory")
    write(folder)
    rows = pd.read_parquet(f"{folder.uri}/data").sort_values("index")
    assert rows["synthetic"].tolist() == [True] * 3
    assert rows["label"].astype(int).tolist() == list(LABELS.values())
    assert rows["source"].isna().all()


def test_pictures_name_their_generator_seed_and_index(samples: SyntheticSet) -> None:
    for index, png in zip(LABELS, samples.table(["image"])["image"].to_pylist(), strict=True):
        opened = Image.open(io.BytesIO(png))
        assert opened.text == {  # type: ignore[attr-defined]
            "Software": "raydistill", "Comment": f"synthetic: generator {GENERATOR}, seed 7, index {index}"
        }  # fmt: skip


def test_training_pairs_have_the_normalisation_of_the_real_images(samples: SyntheticSet) -> None:
    images, labels = samples.to_torch().tensors
    expected = (picture(2) / 255 - np.array(SUMMARY.mean)) / np.array(SUMMARY.std)
    torch.testing.assert_close(images[1], torch.tensor(expected).permute(2, 0, 1).float())
    assert labels.tolist() == [0, NO_CLASS, 0]


def test_a_summary_that_counts_missing_samples_is_corrupt(folder: Folder) -> None:
    write(folder)
    missing = replace(SUMMARY, classes=(SUMMARY.classes[0], SyntheticClass("Sb", 3, 3)))
    folder.write("summary.json", missing.to_json())
    commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    with pytest.raises(ArtifactCorrupt, match="its summary counts samples in 'data/label=1"):
        SyntheticSet.open(folder)


def test_parameters_are_dictionaries_and_real_galaxies_are_named(samples: SyntheticSet) -> None:
    frame = samples.to_pandas()
    assert frame["parameters"].tolist() == [None, {"depth": 0.5, "width": 2.0}, {"depth": 0.5, "width": 3.0}]
    assert samples.real_galaxies() == {"g0", "g2", "g3"}
    assert samples.galaxies() == [f"g{index}" for index in (0, 2, 3)]
    assert "parameters" not in samples.to_astropy().colnames


@pytest.mark.parametrize(("part", "shown"), [("companion", ["h"] * 3), ("inner", ["g0", "g2", "g3"])])
def test_a_recombination_shows_the_galaxy_whose_picture_it_changes(part: str, shown: list[str], folder: Folder) -> None:
    write(folder, replace(SUMMARY, source={"kind": "recombination", "part": part}), origin="h")
    assert SyntheticSet.open(folder).galaxies() == shown
