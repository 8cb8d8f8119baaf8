"""Damage the input of a command before it runs; `bad_inputs` names the functions."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits

from raydistill import config
from raydistill.artifacts.manifest import NAME, commit, open_manifest
from raydistill.pipeline.plan import Plan
from raydistill.stages.distill.artifact import LAST, SELECTED, read_images, write_images
from raydistill.storage import Folder
from tests.damage import flipped
from tests.e2e import tools
from tests.unit.stages.sample_tools import write_generator


def artifact(root: Path, kind: str) -> Path:
    """Return the only artifact of a kind in the prepared run."""
    (folder,) = (root / "runs" / "tiny").glob(f"{kind}-*")
    return folder


def _generator(*groups: str) -> None:
    """Write a generator with random weights to the prepared run in the working folder."""
    write_generator(Plan(config.load("tiny.yaml")), *groups)


def generator_of_classes(_: Path) -> None:
    _generator("class")


def generator_of_votes(_: Path) -> None:
    _generator("votes")


def flip_a_byte(kind: str, name: str) -> Callable[[Path], None]:
    def flip(root: Path) -> None:
        path = artifact(root, kind) / name
        content = path.read_bytes()
        path.write_bytes(flipped(content, len(content) // 2))

    return flip


def damage_the_manifest(root: Path) -> None:
    (artifact(root, "curated") / "manifest.json").write_text("{")


def stop_in_the_middle(root: Path) -> None:
    (artifact(root, "curated") / "manifest.json").unlink()


def link(kind: str) -> Callable[[Path], None]:
    """Link the prepared artifact under a name without a digest."""
    return lambda root: (root / "given").symlink_to(artifact(root, kind))


def folder_of(name: str, suffix: str, content: bytes = b"no picture") -> Callable[[Path], None]:
    """Write a folder of three files that are not pictures."""

    def make(root: Path) -> None:
        (root / name).mkdir()
        for n in range(3):
            (root / name / f"{n}{suffix}").write_bytes(content)

    return make


def bright_arrays(root: Path) -> None:
    """Write a folder of pictures as floats up to 5000."""
    (root / "bright").mkdir()
    for n in range(3):
        np.save(root / "bright" / f"{n}.npy", np.linspace(0, 5000, 32 * 32, dtype=np.float32).reshape(32, 32))


def experts_with_code(root: Path) -> None:
    """Let the experts' manifest name code that the config does not name."""
    folder = Folder(str(artifact(root, "trajectories")))
    old = open_manifest(folder, "trajectories")
    config = old.config | {"network": {"kind": "custom", "factory": "nets:make", "options": {}}}
    uris = {name: parent.uri for name, parent in old.parents.items()}
    commit(folder, kind=old.kind, identity=old.identity, config=config, parents=old.parents, seed=old.seed, uris=uris)


def distilled_with(class_names: list[str], size: int, aligned: bool = False) -> Callable[[Path], None]:
    """Copy the prepared distilled set with other classes, size or alignment."""

    def make(root: Path) -> None:
        source, folder = Folder(artifact(root, "distilled")), Folder(root / "given")
        images, info = read_images(source, SELECTED)
        images = replace(images, images_SCHW=images.images_SCHW[..., :size, :size])
        for name in (SELECTED, LAST):
            write_images(folder, name, images, info | {"class_names": class_names, "aligned": aligned})
        commit(folder, kind="distilled", identity="0" * 64, config={}, parents={}, seed=0, uris={})

    return make


def curated_with(class_names: list[str], size: int) -> Callable[[Path], None]:
    """Copy the prepared curated set with other classes or size, as of another survey."""

    def make(root: Path) -> None:
        source, folder = Folder(artifact(root, "curated")), Folder(root / "other")
        for name in source.files():
            if name != NAME:
                folder.write(name, source.read(name))
        summary = json.loads(source.read("summary.json"))
        summary["image_size"] = size
        for entry, name in zip(summary["classes"], class_names, strict=True):
            entry["name"] = name
        folder.write("summary.json", json.dumps(summary).encode())
        commit(folder, kind="curated", identity="0" * 64, config={}, parents={}, seed=0, uris={})

    return make


def no_pictures(root: Path) -> None:
    shutil.rmtree(root / "pictures")
    (root / "pictures").mkdir()


def no_dog_to_train_on(root: Path) -> None:
    """Name the splits in a column: all dogs are test galaxies."""
    lines = [f"{n},{'cat,train' if n % 2 else 'dog,test'}" for n in range(60)]
    (root / "votes.csv").write_text("\n".join(["id,class,split", *lines, ""]))


def no_picture_of_a_dog(root: Path) -> None:
    for n in range(0, 60, 2):
        (root / "pictures" / f"{n}.png").unlink()


def one_band(root: Path) -> None:
    (root / "bands").mkdir()
    for n in range(60):
        fits.PrimaryHDU(np.ones((32, 32), np.float32)).writeto(root / "bands" / f"{n}.fits")


def pictures_in_parquet(root: Path) -> None:
    pq.write_table(pa.table({"id_str": ["1"], "image": [b"png"]}), root / "v.parquet")


def folders_of_classes(*above: str) -> Callable[[Path], None]:
    """Write two classes of ten pictures below each given folder of the data set `set`."""

    def make(root: Path) -> None:
        for n in range(20 * len(above)):
            folder = root / "set" / above[n // 20] / ("cat" if n % 2 else "dog")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / "pictures" / f"{n}.png", folder)

    return make


def pipe_of_votes(root: Path) -> None:
    (root / "votes.csv").unlink()
    os.mkfifo(root / "votes.csv")


def link_to_itself(root: Path) -> None:
    (root / "pictures" / "loop").symlink_to(".")


def classes_like_splits(root: Path) -> None:
    folders_of_classes("")(root)
    for name, other in (("cat", "train"), ("dog", "test")):
        (root / "set" / name).rename(root / "set" / other)


def metadata_without_labels(root: Path) -> None:
    """Write a Hugging Face image folder whose metadata has another column."""
    (root / "set").mkdir()
    shutil.copy(root / "pictures" / "0.png", root / "set")
    (root / "set" / "metadata.csv").write_text("file_name,kind\n0.png,cat\n")


def class_archives(root: Path) -> None:
    (root / "set").mkdir()
    for name in ("cat", "dog"):
        (root / "set" / f"{name}.tar.gz").write_bytes(b"\x1f\x8b")


def saved_to_disk(root: Path) -> None:
    """Write the names of files of `datasets.save_to_disk`."""
    (root / "set").mkdir()
    for name in ("data-00000-of-00001.arrow", "dataset_info.json", "state.json"):
        (root / "set" / name).write_bytes(b"{}")


def class_of_other_files(root: Path) -> None:
    folders_of_classes("train", "test")(root)
    (root / "set" / "train" / "cow").mkdir()
    (root / "set" / "train" / "cow" / "0.heic").write_bytes(b"?")


def class_of_a_dead_link(root: Path) -> None:
    folders_of_classes("train", "test")(root)
    (root / "set" / "train" / "cow").symlink_to("nowhere")


def pictures_elsewhere(root: Path) -> None:
    """Move the pictures into another folder, which the table names by absolute paths."""
    shutil.copytree(root / "pictures", root / "private")
    rows = [f"{n},{root}/private/{n}.png,{'cat' if n % 2 else 'dog'}" for n in range(60)]
    (root / "votes.csv").write_text("\n".join(["id,file_loc,class", *rows, ""]))


def linked_picture(root: Path) -> None:
    (root / "pictures" / "7.png").replace(root / "private.png")
    (root / "pictures" / "7.png").symlink_to("../private.png")


def linked_class(root: Path) -> None:
    folders_of_classes("train", "test")(root)
    (root / "set" / "train" / "cow").symlink_to(root / "pictures")


def paths_in_parquet(root: Path) -> None:
    shutil.copytree(root / "pictures", root / "private")
    ids = [str(n) for n in range(60)]
    (root / "table").mkdir()
    paths = [f"../private/{name}.png" for name in ids]
    pq.write_table(pa.table({"id_str": ids, "image": paths}), root / "table" / "v.parquet")


def flat_test_folder(root: Path) -> None:
    folders_of_classes("train")(root)
    (root / "set" / "test").mkdir()
    shutil.copy(root / "pictures" / "0.png", root / "set" / "test")


def two_configurations(root: Path) -> None:
    for folder in ("data", "tiny"):
        (root / "set" / folder).mkdir(parents=True)
        table = pa.table({"label": [0, 1], "image": [b"png", b"png"]})
        pq.write_table(table, root / "set" / folder / "train-00000-of-00001.parquet")


def labels_in_parquet(root: Path) -> None:
    pq.write_table(pa.table({"lable": [1, 2], "image": [b"png", b"png"]}), root / "v.parquet")


def cut_cifar(root: Path) -> None:
    (root / "set").mkdir()
    for name in ("train.bin", "test.bin"):
        (root / "set" / name).write_bytes(bytes(3074 + 1000))


def pickled_cifar(root: Path) -> None:
    (root / "set").mkdir()
    for name in ("train", "test", "meta"):
        (root / "set" / name).write_bytes(b"a pickle")


def small_disk(root: Path) -> None:
    tools.mount_small_disk(root / "full", "64k")


def binary(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(bytes(range(256)))


def both(*makes: Callable[[Path], None]) -> Callable[[Path], None]:
    """Prepare a folder in several ways."""

    def make(root: Path) -> None:
        for make in makes:
            make(root)

    return make
