"""Classes that curate makes from votes of other Galaxy Zoo campaigns than GZ2.

It makes them before it reads a pixel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raydistill.config import CatalogSurvey, Curate
from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.stages.curate.select.selection import select_galaxies

SPLIT = (0.6, 0.2, 0.2)
FACE_ON = {"smooth-or-featured": "featured-or-disk", "disk-edge-on": "no"}
EDGE_ON = {"smooth-or-featured": "featured-or-disk", "disk-edge-on": "yes"}
VOTES = {  # of 20 volunteers, by class
    "smooth_round": {"smooth-or-featured": "smooth", "how-rounded": "round"},
    "smooth_in_between": {"smooth-or-featured": "smooth", "how-rounded": "in-between"},
    "smooth_cigar": {"smooth-or-featured": "smooth", "how-rounded": "cigar-shaped"},
    "edge_on_bulge": {**EDGE_ON, "edge-on-bulge": "boxy"},
    "edge_on_no_bulge": {**EDGE_ON, "edge-on-bulge": "none"},
    "bar_spiral": {**FACE_ON, "bar": "weak", "has-spiral-arms": "yes"},
    "bar_no_spiral": {**FACE_ON, "bar": "strong", "has-spiral-arms": "no"},
    "no_bar_spiral": {**FACE_ON, "bar": "no", "has-spiral-arms": "yes"},
    "no_bar_no_spiral": {**FACE_ON, "bar": "no", "has-spiral-arms": "no"},
}
NUM, SHAPES = 90, tuple(VOTES)
IDS = [f"g{n}" for n in range(NUM)]
ANSWERS = {
    "smooth-or-featured": ("smooth", "featured-or-disk", "artifact"),
    "how-rounded": ("round", "in-between", "cigar-shaped"),
    "disk-edge-on": ("yes", "no"),
    "edge-on-bulge": ("rounded", "boxy", "none"),
    "bar": ("strong", "weak", "no"),
    "has-spiral-arms": ("yes", "no"),
}


def table_of(tag: str, suffix: str, problem: str = "artifact") -> dict[str, list[Any]]:
    """Return 90 galaxies, each with 20 volunteers who agree.

    Fractions are null, or votes 0, where no volunteer was asked.
    """
    shapes = [SHAPES[n % len(SHAPES)] for n in range(NUM)]
    table: dict[str, list[Any]] = {}
    for question, answers in ANSWERS.items():
        for answer in answers:
            name = f"{question}{tag}_{problem if answer == 'artifact' else answer}{suffix}"
            table[name] = [_value(VOTES[shape].get(question), answer, suffix) for shape in shapes]
    return table


def _value(given: str | None, answer: str, suffix: str) -> float | None:
    if suffix:
        return None if given is None else float(given == answer)
    return 20 * int(given == answer)


def survey(root: Path, table: dict[str, list[Any]], name: str = "votes.parquet", **keys: Any) -> CatalogSurvey:
    (root / "images").mkdir()
    for n in range(NUM):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / "images" / f"g{n}.png")
    write = pacsv.write_csv if name.endswith(".csv") else pq.write_table
    write(pa.table(table), root / name)
    images = FolderImages(root=str(root / "images"), pattern="{id}.png")
    return CatalogSurvey(catalog=str(root / name), images=images, **keys)


@pytest.mark.parametrize(
    ("ids", "tag", "suffix", "problem", "classes", "name"),
    [
        pytest.param("iauname", "", "_fraction", "artifact", "gz-decals-9", "a.csv", id="GZ DECaLS, volunteers"),
        pytest.param("dr8_id", "", "_fraction", "artifact", "gz-decals-9", "a.parquet", id="GZ DESI, predictions"),
        pytest.param("id_str", "-desi", "_fraction", "artifact", "gz-decals-9", "a.parquet", id="GZ DESI"),
        pytest.param("id_str", "-dr8", "", "artifact", "gz-decals-9", "a.parquet", id="GZ DECaLS, counts"),
        pytest.param("id_str", "-cd", "_fraction", "problem", "gz-cosmic-dawn-9", "a.parquet", id="GZ Cosmic Dawn"),
        pytest.param("id_str", "-euclid", "", "problem", "gz-euclid-9", "a.csv", id="GZ Euclid"),
    ],
)
def test_classes_are_made_from_the_votes_of_the_survey(
    tmp_path: Path, ids: str, tag: str, suffix: str, problem: str, classes: str, name: str
) -> None:
    table = {ids: IDS, **table_of(tag, suffix, problem)}
    selection = select_galaxies(Curate(classes=classes, split=SPLIT), survey(tmp_path, table, name))
    rows = selection.galaxies.select(["object_id", "label"]).to_pylist()
    assert {row["object_id"]: selection.tree.names[row["label"]] for row in rows} == {
        f"g{n}": SHAPES[n % len(SHAPES)] for n in range(NUM)
    }
    assert set(selection.galaxies["confidence"].to_pylist()) == {1.0}


def test_classes_of_galaxy_zoo_2_do_not_fit_another_tree(tmp_path: Path) -> None:
    table = {"id_str": IDS, **table_of("-dr5", "_fraction")}
    with pytest.raises(ConfigError) as caught:
        select_galaxies(Curate(split=SPLIT), survey(tmp_path, table))
    assert str(caught.value) == (
        "curate.classes: the classes 'gz2-9' follow the tree of Galaxy Zoo 2, the votes that of GZ DECaLS; "
        "set it to gz-decals-9, gz-decals-10 or a YAML file with 'tree: gz-decals'"
    )


def test_own_classes_are_paths_in_the_tree_of_the_survey(tmp_path: Path) -> None:
    table = {"id_str": IDS, **table_of("-dr5", "_fraction")}
    (tmp_path / "bars.yaml").write_text(
        "name: bars\ntree: gz-decals\nclasses:\n"
        "  - {name: weak_bar, path: [featured-or-disk, disk-edge-on_no, bar_weak]}\n"
        "  - {name: no_disk, path: [smooth]}\n"
    )
    selection = select_galaxies(Curate(classes=str(tmp_path / "bars.yaml"), split=SPLIT), survey(tmp_path, table))
    labels = selection.galaxies["label"].to_pylist()
    assert (labels.count(0), labels.count(1)) == (10, 30)
    assert selection.unassigned["no_class"] == 50  # edge-on, or another bar


def test_minimum_of_votes_counts_the_answers(tmp_path: Path) -> None:
    votes = survey(tmp_path, {"id_str": IDS, **table_of("-dr5", "")})
    (tmp_path / "disks.yaml").write_text(
        "name: disks\ntree: gz-decals\nclasses:\n"
        "  - {name: edge_on, path: [featured-or-disk, disk-edge-on_yes]}\n"
        "  - {name: bar, path: [featured-or-disk, disk-edge-on_no, [bar_strong, bar_weak]]}\n"
    )
    recipe = {"classes": str(tmp_path / "disks.yaml"), "split": SPLIT}
    selection = select_galaxies(Curate(**recipe, min_votes=60), votes)  # three questions edge-on, four face-on
    assert selection.unassigned["too_few_votes"] == 30  # smooth: two questions
    with pytest.raises(CatalogError, match="none of 90 galaxies was selected"):
        select_galaxies(Curate(**recipe, min_votes=81), votes)
