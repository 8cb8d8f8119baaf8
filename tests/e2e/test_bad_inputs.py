"""Bad inputs, given to the real command line: each gets one sentence (where, what, what to do), its exit code, and no traceback.

`ROWS` is also the table of docs/errors.md; a test holds the two in step. To write it again: python -m tests.e2e.test_bad_inputs
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from raydistill import __version__, cli
from raydistill.artifacts.distilled import LAST, SELECTED, read_images, write_images
from raydistill.artifacts.manifest import seal
from raydistill.artifacts.storage import Folder
from raydistill.errors import ArtifactCorrupt, RaydistillError

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "errors.md"

# Sixty plain labels and noise pictures: a user's own survey in small.
LABELS = "id,class\n" + "".join(f"{n},{'cat' if n % 2 else 'dog'}\n" for n in range(60))
OWN = """\
name: own
survey: {kind: catalog, catalog: votes.csv, images: {kind: folder, root: pictures, pattern: "{id}.png"}}
curate: {classes: pets.yaml, image_size: 16, crop_fraction: 1.0}
tracking: {enabled: false}
"""
FOLDER = '{kind: folder, root: pictures, pattern: "{id}.png"}'
PARQUET = "{kind: parquet, uri: v.parquet, image_column: picture}"
PETS = "name: pets\nclasses: [cat, dog]\n"
TINY = """\
name: tiny
survey: {kind: simulated, num_galaxies: 60, image_size: 32}
curate: {classes: two.yaml, image_size: 8, split: [0.5, 0.25, 0.25], min_picture_size: 16}
network: {kind: convnet, depth: 1, width: 4}
experts: {num_experts: 1, training: {epochs: 2, batch_size: 8}}
distill: {iterations: 2, student_steps: 2, validation_networks: 1, validation_epochs: 1}
evaluate: {num_networks: 1, full_data_networks: 0}
resources: {workers: 1, distill_cpus: 1, object_store_mb: 80}
tracking: {enabled: false}
"""
TWO = "name: two\nclasses: [{name: round, path: [smooth]}, {name: disk, path: [features_or_disk]}]\n"
FILES = {"own.yaml": OWN, "pets.yaml": PETS, "votes.csv": LABELS, "tiny.yaml": TINY, "two.yaml": TWO}


@dataclass(frozen=True)
class Row:
    """One bad input. `command` follows `raydistill` in a folder with `FILES` and pictures, changed by `files` and `prepare`."""

    what: str
    command: str
    code: int
    sentence: str
    files: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], object] | None = None
    unset: str = ""


def artifact(root: Path, kind: str) -> Path:
    """The one artifact of a kind in the prepared run."""
    (found,) = (root / "runs" / "tiny").glob(f"{kind}-*")
    return found


def flip_a_byte(root: Path) -> None:
    path = artifact(root, "curated") / "data" / "split=train" / "label=0" / "part-0.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def damage_the_manifest(root: Path) -> None:
    (artifact(root, "curated") / "manifest.json").write_text("{")


def stop_in_the_middle(root: Path) -> None:
    (artifact(root, "curated") / "manifest.json").unlink()


def link(kind: str) -> Callable[[Path], None]:
    """A path without a digest for the prepared artifact."""
    return lambda root: (root / "given").symlink_to(artifact(root, kind))


def distilled_with(class_names: list[str], size: int) -> Callable[[Path], None]:
    """The prepared distilled set as if it were of other classes or of another size."""

    def make(root: Path) -> None:
        source, folder = Folder(artifact(root, "distilled")), Folder(root / "given")
        images, info = read_images(source, SELECTED)
        images = replace(images, images_SCHW=images.images_SCHW[..., :size, :size])
        for name in (SELECTED, LAST):
            write_images(folder, name, images, info | {"class_names": class_names})
        seal(folder, kind="distilled", identity="0" * 64, config={}, parents={}, seed=0, uris={})

    return make


def no_pictures(root: Path) -> None:
    shutil.rmtree(root / "pictures")
    (root / "pictures").mkdir()


def two_cats_one_dog(root: Path) -> None:
    """Of the dogs only ones that fall into the test split."""
    from raydistill.galaxies.selection import split_of

    ids = [str(n) for n in range(60)]
    split = split_of(ids, (0.7, 0.15, 0.15))
    kept = [(i, "cat" if int(i) % 2 else "dog") for i, part in zip(ids, split, strict=True)]
    lines = [f"{i},{label}" for (i, label), part in zip(kept, split, strict=True) if label == "cat" or part == "test"]
    (root / "votes.csv").write_text("\n".join(["id,class", *lines, ""]))


def pictures_in_parquet(root: Path) -> None:
    pq.write_table(pa.table({"id_str": ["1"], "image": [b"png"]}), root / "v.parquet")


def small_disk(root: Path) -> None:
    """A file system of 64 kB at `full`; only root may mount one."""
    (root / "full").mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(root / "full")], capture_output=True)
    if done.returncode:
        pytest.skip(f"needs the right to mount a small disk ({done.stderr.decode().strip()})")


def binary(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(bytes(range(256)))


SIMULATED = "name: x\nsurvey: {kind: simulated}\n"
PREPARED = "distill tiny.yaml"  # rows on the prepared run start from what this command made
R = Row
# fmt: off
CONFIG_ROWS = [
    R("a config file that is not there", "run nope.yaml", 2, ""),
    R("a folder as config", "run pictures", 2, ""),
    R("a config that is no text", "run c.yaml", 2, "", prepare=binary("c.yaml")),
    R("a config that is not YAML", "run c.yaml", 2, "", {"c.yaml": "a: [1\n"}),
    R("a config that is a list", "run c.yaml", 2, "", {"c.yaml": "- 1\n"}),
    R("a key that nobody knows", "run c.yaml", 2, "", {"c.yaml": SIMULATED + "outptu: x\n"}),
    R("a nested key that nobody knows", "run c.yaml", 2, "", {"c.yaml": SIMULATED + "experts: {training: {epoch: 3}}\n"}),
    R("an override of a key that nobody knows", "run tiny.yaml distill.itertions=3", 2, ""),
    R("a wrong type", "run tiny.yaml distill.iterations=ten", 2, ""),
    R("a value out of range", "run tiny.yaml curate.crop_fraction=2", 2, ""),
    R("a simulated survey without galaxies", "run tiny.yaml survey.num_galaxies=0", 2, ""),
    R("no CPUs for a worker", "run tiny.yaml resources.cpus=0", 2, ""),
    R("an unknown kind", "run tiny.yaml distill.schedule.kind=self-adaptiv", 2, ""),
    R("a key that is missing", "run c.yaml", 2, "", {"c.yaml": "name: x\n"}),
    R("an override without '='", "run tiny.yaml distill.iterations", 2, ""),
    R("an override that is not YAML", "run tiny.yaml curate.split=[0.5", 2, ""),
    R("an environment variable that is not set", "run c.yaml", 2, "", {"c.yaml": SIMULATED + "output: ${oc.env:RAYDISTILL_DATA}/x\n"}, unset="RAYDISTILL_DATA"),
    R("a reference to nothing", "run c.yaml", 2, "", {"c.yaml": SIMULATED + "output: ${outptu}\n"}),
    R("too many poolings for the images", "run tiny.yaml network.depth=4", 2, ""),
    R("too many poolings for a network that judges", "run tiny.yaml 'evaluate.networks=[{kind: convnet, depth: 5}]'", 2, ""),
    R("a target beyond the experts' last epoch", "run tiny.yaml distill.expert_epochs=3", 2, ""),
    R("an unknown class tree", "run tiny.yaml curate.classes=gz2-8", 2, ""),
    R("a class tree that is not there", "run tiny.yaml curate.classes=three.yaml", 2, ""),
    R("a class tree with an unknown answer", "run tiny.yaml", 2, "", {"two.yaml": "classes: [{name: a, path: [smoth]}]\n"}),
    R("a class tree that is not YAML", "run tiny.yaml", 2, "", {"two.yaml": "classes: [\n"}),
    R("simulate for a survey of one's own", "simulate own.yaml", 2, ""),
    R("an unknown storage", "run tiny.yaml output=foo://bucket/x", 2, ""),
]
SURVEY_ROWS = [
    R("a vote table that is not there", "curate own.yaml survey.catalog=nope.csv", 3, ""),
    R("a vote table in an unknown format", "curate own.yaml survey.catalog=own.yaml", 3, ""),
    R("an empty file", "curate own.yaml", 3, "", {"votes.csv": ""}),
    R("a table without rows", "curate own.yaml", 3, "", {"votes.csv": "id,class\n"}),
    R("a damaged Parquet table", "curate own.yaml survey.catalog=v.parquet", 3, "", {"v.parquet": "PAR1 and no more"}),
    R("columns of no dialect", "curate own.yaml", 3, "", {"votes.csv": "id,smooth\n1,0.5\n"}),
    R("an unknown dialect", "curate own.yaml survey.dialect=kagle", 2, ""),
    R("a dialect that the table has not", "curate own.yaml survey.dialect=kaggle", 3, ""),
    R("a column that is not there", "curate own.yaml survey.columns.label=clas", 3, ""),
    R("an unknown role of a column", "curate own.yaml survey.columns.labl=class", 2, ""),
    R("ids that stand in two rows", "curate own.yaml", 3, "", {"votes.csv": "id,class\n1,cat\n1,dog\n2,cat\n"}),
    R("ids that were floating-point numbers", "curate own.yaml", 3, "", {"votes.csv": "id,class\n5.877e17,cat\n5.878e17,dog\n"}),
    R("fractions outside [0, 1]", "curate own.yaml", 3, "", {"votes.csv": "id,class,confidence\n1,cat,0.5\n2,dog,17\n"}),
    R("a confidence that is no number", "curate own.yaml", 3, "", {"votes.csv": "id,class,confidence\n1,cat,0.5\n2,dog,high\n"}),
    R("a label that is no class", "curate own.yaml", 3, "", {"votes.csv": LABELS + "99,dgo\n"}),
    R("images in a folder that is not there", "curate own.yaml survey.images.root=nope", 3, ""),
    R("images in an empty folder", "curate own.yaml", 3, "", prepare=no_pictures),
    R("images in an unknown storage", "curate own.yaml survey.images.root=foo://bucket", 3, ""),
    R("images in a Parquet file without that column", "curate c.yaml", 3, "", {"c.yaml": OWN.replace(FOLDER, PARQUET)}, pictures_in_parquet),
    R("ids without pictures", "curate own.yaml 'survey.images.pattern=\"{id}.jpg\"'", 3, ""),
    R("a pattern without the id", "curate own.yaml survey.images.pattern=x.jpg", 2, ""),
    R("a balanced choice with an empty class", "curate own.yaml curate.balance=true", 3, "", {"votes.csv": "id,class\n1,cat\n2,cat\n"}),
    R("a vote threshold for a table without counts", "curate own.yaml curate.min_votes=5", 3, ""),
    R("a class without a training galaxy", "curate own.yaml", 3, "", prepare=two_cats_one_dog),
]
RUN_ROWS = [
    R("curate before simulate", "curate tiny.yaml seed=1", 3, ""),
    R("experts before curate", "experts tiny.yaml seed=1", 3, ""),
    R("distill before experts", "distill tiny.yaml experts.num_experts=2", 3, ""),
    R("evaluate before distill", "evaluate tiny.yaml distill.iterations=3", 3, ""),
    R("an output that is a file", "simulate tiny.yaml output=votes.csv", 3, ""),
    R("classes without a path for a table of votes", "curate tiny.yaml curate.classes=pets.yaml", 2, ""),
    R("a curated set whose stage was stopped", "experts tiny.yaml experts.num_experts=2", 3, "", prepare=stop_in_the_middle),
    R("a damaged manifest", "experts tiny.yaml experts.num_experts=2", 3, "", prepare=damage_the_manifest),
    R("a flipped byte in a curated file", "experts tiny.yaml experts.num_experts=2", 3, "", prepare=flip_a_byte),
    R("no artifact given as distilled", "evaluate tiny.yaml distilled=pictures", 3, ""),
    R("an artifact of another kind given as distilled", "evaluate tiny.yaml distilled=given", 3, "", prepare=link("curated")),
    R("a distilled set of other classes", "evaluate tiny.yaml distilled=given", 3, "", prepare=distilled_with(["cat", "dog"], 8)),
    R("a distilled set of another image size", "evaluate tiny.yaml distilled=given", 3, "", prepare=distilled_with(["round", "disk"], 4)),
    R("more GPUs for an expert than a machine has", "experts tiny.yaml resources.gpus=4 experts.num_experts=2", 5, ""),
    R("more GPUs for distilling than a machine has", "distill tiny.yaml resources.distill_gpus=4 distill.iterations=3", 5, ""),
    R("experts that diverge", "experts tiny.yaml experts.training.lr=1e30", 4, ""),
    R("a student that diverges", "distill tiny.yaml distill.student_lr=1e30", 4, ""),
    R("a full disk", "simulate tiny.yaml output=full", 3, "", prepare=small_disk),
]
ROWS = [*CONFIG_ROWS, *SURVEY_ROWS, *RUN_ROWS]
# fmt: on
