"""Archives: complete, resumed, and rejected if unsafe, damaged or far too large."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from raydistill.errors import DownloadError
from raydistill.fetching.unpacking import Unpacked, unpack
from tests.damage import flipped

NOISE = np.random.default_rng(0).integers(0, 255, (20, 1000), dtype=np.uint8)
PICTURES = {f"{n}.jpg": b"\xff\xd8\xff" + NOISE[n].tobytes() for n in range(5)}


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


WRITERS = pytest.mark.parametrize("name", ["pictures.zip", "pictures.tgz"])


def write_archive(path: Path, members: dict[str, bytes]) -> Path:
    return (write_zip if path.suffix == ".zip" else write_tar)(path, members)


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@WRITERS
def test_pictures_of_all_subfolders_go_into_one_folder(name: str, tmp_path: Path) -> None:
    members = {f"images_gz2/images/{picture}": data for picture, data in PICTURES.items()}
    others = {"images_gz2/README.txt": b"text", "__MACOSX/images/._1.jpg": b"x", "images_gz2/images/._1.jpg": b"x"}
    archive = write_archive(tmp_path / name, members | others)
    assert unpack(archive, "pictures", tmp_path / "images") == Unpacked(5, 5 * 1003)
    assert read_all(tmp_path / "images") == PICTURES
    assert not (tmp_path / "images.part").exists()


def test_name_that_is_not_utf8_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    archive = write_tar(tmp_path / "p.tgz", {"caf\udce9/1.jpg": b"x", **PICTURES})
    assert unpack(archive, "pictures", tmp_path / "images").files == len(PICTURES)
    assert read_all(tmp_path / "images") == PICTURES
    assert "is not UTF-8 and is left out" in caplog.text


@WRITERS
def test_interrupted_unpacking_keeps_what_is_complete(name: str, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / name, PICTURES)
    part = tmp_path / "images.part"
    part.mkdir()
    (part / "0.jpg").write_bytes(PICTURES["0.jpg"])
    (part / "1.jpg").write_bytes(PICTURES["1.jpg"][:500])
    (part / "old.jpg").write_bytes(b"of another archive")
    before = (part / "0.jpg").stat().st_mtime_ns
    unpack(archive, "pictures", tmp_path / "images")
    assert read_all(tmp_path / "images") == PICTURES
    kept = (tmp_path / "images" / "0.jpg").stat().st_mtime_ns == before
    assert kept == name.endswith("zip"), "a tar has no CRC of a file"


@WRITERS
def test_unpacked_file_with_a_flipped_bit_is_written_again(name: str, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / name, PICTURES)
    (tmp_path / "images.part").mkdir()
    (tmp_path / "images.part" / "0.jpg").write_bytes(flipped(PICTURES["0.jpg"], 500))
    unpack(archive, "pictures", tmp_path / "images")
    assert read_all(tmp_path / "images") == PICTURES


@WRITERS
@pytest.mark.parametrize("member", ["../../evil.jpg", "/tmp/evil.jpg", "a\\..\\..\\evil.jpg", "C:evil.jpg"])
def test_name_that_leads_out_of_the_folder_is_rejected(name: str, member: str, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    archive = write_archive(folder / name, {member: b"x"})
    with pytest.raises(DownloadError, match="leads out of its folder"):
        unpack(archive, "pictures", folder / "images")
    assert not list(tmp_path.rglob("*evil*"))
    assert not (folder / "images").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_rejected(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tgz", "w:gz") as archive:
        info = tarfile.TarInfo("evil.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DownloadError, match="a link that leads out"):
        unpack(tmp_path / "p.tgz", "pictures", tmp_path / "images")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_attributes_of_a_tar_that_fill_the_memory_are_rejected(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.jpg")
    info.type, info.size = kind, 1 << 32
    (tmp_path / "p.tgz").write_bytes(gzip.compress(info.tobuf()))
    with pytest.raises(DownloadError, match=r"is damaged \(attributes of 4294967296 bytes"):
        unpack(tmp_path / "p.tgz", "pictures", tmp_path / "images")


def test_link_in_a_zip_is_rejected(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("evil.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DownloadError, match="a link that leads out"):
        unpack(tmp_path / "p.zip", "pictures", tmp_path / "images")


@WRITERS
def test_archive_that_expands_a_thousandfold_is_rejected(name: str, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / name, {"bomb.jpg": bytes(20_000_000)})
    with pytest.raises(DownloadError, match="expands to more than 100 times its size"):
        unpack(archive, "pictures", tmp_path / "images")
    assert not list(tmp_path.rglob("*.jpg"))


def test_gzip_that_expands_a_thousandfold_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(bytes(20_000_000)))
    with pytest.raises(DownloadError, match="expands to more than 100 times its size"):
        unpack(tmp_path / "t.csv.gz", "gzip", tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()


@WRITERS
def test_lack_of_space_is_reported_before_a_file_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_archive(tmp_path / name, PICTURES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(500))
    with pytest.raises(DownloadError, match="the disk has 0 MB free, and the archive needs more; free some space"):
        unpack(archive, "pictures", tmp_path / "images")


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
@WRITERS
def test_truncated_archive_is_rejected(name: str, cut: float, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / name, {f"{n}.jpg": NOISE[n].tobytes() for n in range(20)})
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * cut)])
    with pytest.raises(DownloadError, match=r"the archive is damaged .*; remove it and run the same command again"):
        unpack(archive, "pictures", tmp_path / "images")
    assert not (tmp_path / "images").exists()


def test_flipped_byte_in_a_zip_is_found(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "p.zip", PICTURES)
    data = bytearray(archive.read_bytes())
    data[500] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DownloadError, match="the archive is damaged"):
        unpack(archive, "pictures", tmp_path / "images")


def test_gzip_is_unpacked_and_its_crc_verified(tmp_path: Path) -> None:
    text = b"dr7objid,ra\n1,2\n" * 1000
    packed = bytearray(gzip.compress(text))
    (tmp_path / "t.csv.gz").write_bytes(packed)
    assert unpack(tmp_path / "t.csv.gz", "gzip", tmp_path / "t.csv") == Unpacked(1, len(text))
    assert (tmp_path / "t.csv").read_bytes() == text
    packed[-6] ^= 1
    (tmp_path / "u.csv.gz").write_bytes(packed)
    with pytest.raises(DownloadError, match="the archive is damaged"):
        unpack(tmp_path / "u.csv.gz", "gzip", tmp_path / "u.csv")
    assert not (tmp_path / "u.csv").exists()


@WRITERS
def test_two_files_of_one_name_are_rejected(name: str, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / name, {"a/1.jpg": b"x", "b/1.JPG": b"y"})
    with pytest.raises(DownloadError, match=r"the archive has two files '1\.JPG'"):
        unpack(archive, "pictures", tmp_path / "images")


@WRITERS
def test_archive_without_pictures_is_rejected(name: str, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / name, {"README.txt": b"x"})
    with pytest.raises(DownloadError, match="the archive has no pictures"):
        unpack(archive, "pictures", tmp_path / "images")


def test_tables_of_an_archive_go_beside_each_other(tmp_path: Path) -> None:
    tables = {"efigi-1.6/EFIGI_attributes.txt": b"PGC 1", "efigi-1.6/README": b"text", "efigi-1.6/x.png": b"no"}
    unpack(write_tar(tmp_path / "t.tgz", tables), "text", tmp_path / "tables")
    assert read_all(tmp_path / "tables") == {"EFIGI_attributes.txt": b"PGC 1", "README": b"text"}
