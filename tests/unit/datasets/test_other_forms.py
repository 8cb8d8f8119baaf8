"""The error for data that are not a folder of pictures names what works."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raydistill.datasets.folder import ImageFolder
from raydistill.datasets.table import ImageTable
from raydistill.errors import CatalogError


def rejected(root: Path) -> str:
    with pytest.raises(CatalogError) as caught:
        ImageFolder(root=str(root)).index()
    assert caught.value.where == str(root)
    return f"{caught.value.what}; {caught.value.fix}"


@pytest.fixture
def classes(tmp_path: Path, pictures: np.ndarray) -> Path:
    for n, pixels in enumerate(pictures[:6]):
        path = tmp_path / "classes" / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "classes"


@pytest.mark.parametrize("form", ["tar", "gztar", "bztar"])
def test_command_for_a_tar_unpacks_it(tmp_path: Path, classes: Path, form: str) -> None:
    archive = shutil.make_archive(str(tmp_path / "it's packed"), form, classes)
    sentence = rejected(Path(archive))
    command = re.search("with '(.*) -C FOLDER', and give the folder", sentence)
    assert sentence.startswith("this is a tar archive; unpack it")
    assert command is not None
    (tmp_path / "unpacked").mkdir()
    subprocess.run(f"{command[1]} -C {tmp_path}/unpacked", shell=True, check=True)
    assert ImageFolder(root=f"{tmp_path}/unpacked").index().names == ["a", "b"]


def test_folder_of_archives_is_rejected(tmp_path: Path, classes: Path, caplog: pytest.LogCaptureFixture) -> None:
    for form in ("gztar", "zip"):
        for label in "ab":
            shutil.make_archive(str(tmp_path / form / label), form, classes, label)
    assert rejected(tmp_path / "gztar") == (
        f"there are no pictures in it, but tar archives (a.tar.gz, b.tar.gz); unpack each, as "
        f"'tar -xf {tmp_path}/gztar/a.tar.gz -C FOLDER', and give the folder"
    )
    assert rejected(tmp_path / "zip") == (
        "there are no pictures in it, but zips (a.zip, b.zip); give one of them as survey.root, or unpack them and "
        "give the folder"
    )
    shutil.copy(tmp_path / "zip" / "a.zip", classes / "c.zip")
    assert ImageFolder(root=str(classes)).index().names == ["a", "b"]
    assert "archives are not unpacked: 1 (first: 'c.zip')" in caplog.text


@pytest.mark.parametrize(("name", "kind"), [("t.parquet", "image-parquet"), ("a.h5", "arrays"), ("a.npz", "arrays")])
def test_other_kind_of_data_set_is_named(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"?")
    sentence = f"this is not a folder of pictures but '{name}'; set survey.kind={kind}"
    assert rejected(tmp_path) == rejected(tmp_path / name) == sentence


@pytest.mark.parametrize("folder", ["saved", "it's $aved"])
@pytest.mark.parametrize("parts", [("",), ("train", "test")])
def test_command_for_a_folder_of_save_to_disk_converts_it(
    tmp_path: Path, classes: Path, parts: tuple[str, ...], folder: str
) -> None:
    datasets = pytest.importorskip("datasets")
    files = sorted(classes.rglob("*.png"))
    saved = datasets.Dataset.from_dict(
        {"image": list(map(str, files)), "label": [int(f.parent.name == "b") for f in files]}
    )
    saved = saved.cast_column("image", datasets.Image()).cast_column("label", datasets.ClassLabel(names=["a", "b"]))
    root = tmp_path / folder
    (datasets.DatasetDict(dict.fromkeys(parts, saved)) if len(parts) > 1 else saved).save_to_disk(str(root))
    sentence = rejected(root)
    with pytest.raises(CatalogError) as caught:
        ImageTable(root=str(root)).index()
    assert f"{caught.value.what}; {caught.value.fix}" == sentence
    match = re.fullmatch(
        "this is a data set that .* wrote; run python -c (.*), and give survey={kind: image-parquet, root: (.*)}",
        sentence,
    )
    assert match is not None
    subprocess.run([sys.executable, "-c", *shlex.split(match[1])], check=True, capture_output=True)
    shutil.rmtree(classes)  # the pictures are in the Parquet files
    names, rows = ImageTable(root=match[2]).index()
    assert names == ["a", "b"]
    assert rows["label"].to_pylist() == ["a"] * 3 + ["b"] * 3 + (["a"] * 3 + ["b"] * 3) * (len(parts) - 1)
    assert set(rows["part"].to_pylist()) == {*(part or "train" for part in parts)}
