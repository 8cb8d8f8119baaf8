"""Test the morphology of an analysis.

Its tasks agree with a plain loop, resume by block, and fill the section.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas.testing import assert_frame_equal
from ray_tools import copy_of, tiny

from raydistill.morphology.measures import MEASURES, SCHEMA, measure
from raydistill.pipeline.plan import Plan
from raydistill.runtime import ray_data
from raydistill.stages.analyse.artifact import analysis_spec
from raydistill.stages.analyse.inputs import open_inputs
from raydistill.stages.analyse.morphology import measuring
from raydistill.stages.analyse.morphology.section import morphology_section

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.mark.long
def test_blocks_are_measured_once_and_make_a_section(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories", "distilled")
    plan = Plan(tiny(root, "analyse.max_galaxies=2", "resources.workers=2"))
    inputs = open_inputs(plan, analysis_spec(plan))
    prototypes, galaxies = measuring.measured_pictures(inputs)
    assert len(prototypes) == len(inputs.distilled.labels)
    labels, counts = np.unique(galaxies["label"].to_numpy(), return_counts=True)
    assert counts.tolist() == [min(int((inputs.galaxy_labels == label).sum()), 2) for label in labels]

    ids = galaxies["object_id"].to_pylist()
    pictures = inputs.train.images_NHWC.numpy()[[inputs.train.object_ids.index(object_id) for object_id in ids]]
    expected = measure(pictures.astype(np.float32) / 255).to_pandas()  # its last bits depend on the size of a block
    assert_frame_equal(galaxies.select(SCHEMA.names).to_pandas(), expected, rtol=1e-6)

    lost = sorted((Path(inputs.spec.folder.uri) / "partial" / "morphology").iterdir())[0]
    lost.unlink()
    map_blocks, measured = ray_data.map_blocks, []

    def count(tables: list[Any], *options: Any) -> Any:
        measured.extend(table["block"][0].as_py() for table in tables)
        return map_blocks(tables, *options)

    monkeypatch.setattr(ray_data, "map_blocks", count)
    section = morphology_section(inputs)
    assert measured == [f"morphology/{lost.name}"]
    (compared, flags, *_) = (table.rows for table in section.tables)
    assert len(compared) == len(MEASURES) * len(labels)
    assert sum(flags["n"].to_pylist()) == len(prototypes) + len(galaxies)
    assert {figure.name for figure in section.figures} == {
        "morphology_profiles",
        "morphology_measures",
        "morphology_structure",
    }
    assert all(statement.n > 0 for statement in section.statements)
