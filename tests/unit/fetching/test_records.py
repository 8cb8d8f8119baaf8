"""Records as a user fetches them: layout, provenance, configs and checksums.

The checksums are Zenodo's, and several files are fetched at once.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from raydistill import config
from raydistill.errors import ConfigError, DownloadError
from raydistill.fetching import runner
from raydistill.fetching.http import Patience, Reach
from raydistill.fetching.provenance import write_config
from raydistill.fetching.records import RECORDS, find_record
from raydistill.fetching.runner import fetch
from raydistill.fetching.zenodo import read_zenodo
from tests.damage import flipped
from tests.unit.fetching.file_server import FileServer, fail, fail_after, redirect, send, serve, truncate, with_files

ZIP = "/zenodo.org/records/3565489/files/images_gz2.zip"
MAPPING = "/zenodo.org/records/3565489/files/gz2_filename_mapping.csv"
API = "/zenodo.org/api/records/3565489"
VOTES = "/gz2hart.s3.amazonaws.com/gz2_hart16.csv.gz"
NAMES = b"objid,sample,asset_id\n1,original,10\n2,original,11\n"
TABLE = b"dr7objid,ra,dec,gz2_class\n" + b"".join(b"%d,10.%d,20.0,Er\n" % (n, n) for n in range(200))


@functools.cache  # a zip has the time at which it was made
def make_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for n in (10, 11):
            archive.writestr(f"images/{n}.jpg", b"\xff\xd8\xff" + bytes([n]) * 40_000)
    return packed.getvalue()


def add_gz2(server: FileServer, licence: str = "cc-by-4.0") -> None:
    """Serve a small gz2 record with the checksums of its files."""
    files = {"images_gz2.zip": make_zip(), "gz2_filename_mapping.csv": NAMES}
    server.add(ZIP, files["images_gz2.zip"])
    server.add(MAPPING, files["gz2_filename_mapping.csv"])
    listed = [
        {"key": name, "size": len(data), "checksum": f"md5:{hashlib.md5(data).hexdigest()}"}
        for name, data in files.items()
    ]
    server.add(API, json.dumps({"files": listed, "metadata": {"license": {"id": licence}}}).encode())


@pytest.fixture
def survey(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """Return a server of gz2 and hart16, whose small files are the published ones."""
    gz2 = with_files(RECORDS["gz2"], {"images_gz2.zip": make_zip(), "gz2_filename_mapping.csv": NAMES})
    monkeypatch.setitem(RECORDS, "gz2", gz2)  # type: ignore[arg-type]
    add_gz2(server)
    server.add(VOTES, gzip.compress(TABLE))
    return server


def test_layout_is_that_of_the_configs(survey: FileServer, quick: Patience, tmp_path: Path) -> None:
    fetched = fetch("gz2", "hart16", to=tmp_path, base_url=survey.url, patience=quick)
    folder = tmp_path / "gz2"
    assert [record.folder for record in fetched] == [folder, folder]
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "gz2.provenance.json", "gz2_filename_mapping.csv", "gz2_hart16.csv", "hart16.provenance.json", "hart16.yaml",
        "images",
    ]  # fmt: skip
    assert sorted(path.name for path in (folder / "images").iterdir()) == ["10.jpg", "11.jpg"]
    assert (folder / "gz2_hart16.csv").read_bytes() == TABLE


def test_config_carries_paths_licence_and_citation(survey: FileServer, quick: Patience, tmp_path: Path) -> None:
    add_gz2(survey, "cc-by-nc-4.0")
    _, hart16 = fetch("gz2", "hart16", to=tmp_path, base_url=survey.url, patience=quick)
    assert hart16.config is not None
    loaded = config.load(str(hart16.config), []).survey
    assert Path(loaded.catalog).read_bytes() == TABLE
    assert Path(loaded.images.mapping).read_bytes() == NAMES
    assert Path(loaded.images.root, "10.jpg").exists()
    assert (loaded.dialect, loaded.frame_r90) == ("hart16", 8.48)
    assert loaded.citation.split("; ") == [
        "Willett et al. 2013, MNRAS 435, 2835", "Hart et al. 2016, MNRAS 461, 3663", "doi:10.5281/zenodo.3565489",
    ]  # fmt: skip
    assert loaded.licence == f"{RECORDS['hart16'].licence}; pictures: CC BY-NC 4.0"


LICENCES = [
    "${oc.env:HOME}", "a\nname: other", "{{ 1 }}", "!!python/object:os.system", "<script>alert(1)</script>",
    "a | b", "=1+1", "x" * 100_000, {"a": 1}, None,
]  # fmt: skip


@pytest.mark.parametrize("licence", LICENCES)
def test_licence_of_a_server_that_is_no_identifier_is_not_used(
    licence: str, survey: FileServer, quick: Patience, tmp_path: Path
) -> None:
    add_gz2(survey, licence)
    _, hart16 = fetch("gz2", "hart16", to=tmp_path, base_url=survey.url, patience=quick)
    loaded = config.load(str(hart16.config), []).survey
    assert loaded.licence == f"{RECORDS['hart16'].licence}; pictures: {RECORDS['gz2'].licence}"


def test_config_gives_foreign_text_back_literally(tmp_path: Path) -> None:
    """The provenance of another folder may hold any text, as may the name of a folder."""
    folder, licence = tmp_path / "${oc.env:HOME}", 'a: "${oc.env:HOME}"\nname: other # {{ 1 }}'
    folder.mkdir()
    write_config(RECORDS["hart16"], folder / "hart16.yaml", licence, "1e3")
    loaded = config.load(str(folder / "hart16.yaml"), ["seed=3"])
    again = config.override(loaded, ["seed=4"])
    for read in (loaded, again):
        assert (read.survey.licence, read.survey.citation) == (licence, "1e3")
        assert read.survey.catalog == str(folder / "gz2_hart16.csv")


def test_config_that_the_user_changed_stays(survey: FileServer, quick: Patience, tmp_path: Path) -> None:
    (hart16,) = fetch("hart16", to=tmp_path, base_url=survey.url, patience=quick)
    assert hart16.config is not None
    hart16.config.write_text(hart16.config.read_text() + "seed: 5\n")
    fetch("gz2", "hart16", to=tmp_path, base_url=survey.url, patience=quick)
    assert config.load(str(hart16.config), []).seed == 5


def test_galaxy10_is_read_as_arrays(
    server: FileServer, quick: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra hdf5")
    with h5py.File(tmp_path / "made.h5", "w") as made:
        made["images"], made["ans"] = np.zeros((20, 16, 16, 3), np.uint8), np.arange(20) % 10
    data = (tmp_path / "made.h5").read_bytes()
    listed = [{"key": "Galaxy10_DECals.h5", "size": len(data), "checksum": f"md5:{hashlib.md5(data).hexdigest()}"}]
    server.add("/zenodo.org/api/records/10845026", json.dumps({"files": listed}).encode())
    server.add("/zenodo.org/records/10845026/files/Galaxy10_DECals.h5", data)
    monkeypatch.setitem(RECORDS, "galaxy10", with_files(RECORDS["galaxy10"], {"Galaxy10_DECals.h5": data}))  # type: ignore[arg-type]
    (galaxy10,) = fetch("galaxy10", to=tmp_path, base_url=server.url, patience=quick)
    loaded = config.load(str(galaxy10.config), []).survey
    assert loaded.index().rows.num_rows == 20
    assert loaded.licence == RECORDS["galaxy10"].licence


def test_provenance_names_source_checksums_licence_and_citation(
    survey: FileServer, quick: Patience, tmp_path: Path
) -> None:
    add_gz2(survey, "cc-by-nc-4.0")
    fetch("gz2", to=tmp_path, base_url=survey.url.replace("//", "//me:secret@"), patience=quick)
    path = tmp_path / "gz2" / "gz2.provenance.json"
    values = json.loads(path.read_text())
    assert values["licence"] == "CC BY-NC 4.0"  # Zenodo's own answer
    assert values["citation"].endswith("doi:10.5281/zenodo.3565489")
    images, mapping = values["files"]
    assert images["url"] == "https://zenodo.org/records/3565489/files/images_gz2.zip"
    assert images["sha256"] == hashlib.sha256(make_zip()).hexdigest()
    assert images["published_checksum"] == f"md5:{hashlib.md5(make_zip()).hexdigest()}"
    assert images["unpacked"] == {"into": "images", "files": 2, "size": 2 * 40_003}
    assert mapping["mirror"] == survey.url.replace("//", "//…@")
    assert not re.search(r"20\d\d-\d\d", path.read_text()), "a date would change the file at each fetch"


def test_complete_record_is_not_asked_for_again(survey: FileServer, quick: Patience, tmp_path: Path) -> None:
    fetch("gz2", "hart16", to=tmp_path, base_url=survey.url, patience=quick)
    before = len(survey.log)
    fetch("gz2", "hart16", to=tmp_path, base_url=survey.url, patience=quick)
    assert len(survey.log) == before
    (tmp_path / "gz2" / "images" / "10.jpg").unlink()
    fetch("gz2", "hart16", to=tmp_path, base_url=survey.url, patience=quick)
    assert (tmp_path / "gz2" / "images" / "10.jpg").exists()
    assert [request.path for request in survey.log[before:]] == [API, ZIP]


def test_only_the_missing_file_of_a_record_is_fetched(survey: FileServer, quick: Patience, tmp_path: Path) -> None:
    fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)
    provenance = (tmp_path / "gz2" / "gz2.provenance.json").read_bytes()
    before = len(survey.log)
    (tmp_path / "gz2" / "gz2_filename_mapping.csv").unlink()
    fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)
    assert [request.path for request in survey.log[before:]] == [API, MAPPING]
    assert (tmp_path / "gz2" / "gz2.provenance.json").read_bytes() == provenance


@pytest.mark.parametrize("at", [20, 400, -300])
def test_files_are_fetched_again_if_a_bit_of_their_provenance_flips(
    at: int, survey: FileServer, quick: Patience, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)
    provenance = tmp_path / "gz2" / "gz2.provenance.json"
    before = provenance.read_bytes()
    provenance.write_bytes(flipped(before, at))
    fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)
    assert provenance.read_bytes() == before
    assert caplog.text.count("gz2.provenance.json is damaged, so the files are fetched again") == 1


def test_archives_stay_if_requested(survey: FileServer, quick: Patience, tmp_path: Path) -> None:
    fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick, keep_archives=True)
    assert (tmp_path / "gz2" / "images_gz2.zip").read_bytes() == make_zip()


def test_files_are_downloaded_at_the_same_time(survey: FileServer, quick: Patience, tmp_path: Path) -> None:
    for path in (ZIP, MAPPING, VOTES):
        survey.add(path, survey.files[path], serve(pause=0.1, block=-(-len(survey.files[path]) // 5)))
    fetch("gz2", "hart16", to=tmp_path, base_url=survey.url, patience=quick, parallel=3)
    times = [survey.asked(path)[0] for path in (ZIP, MAPPING, VOTES)]
    assert max(request.started for request in times) < min(request.ended for request in times)
    survey.log.clear()
    fetch("gz2", "hart16", to=tmp_path / "again", base_url=survey.url, patience=quick, parallel=1)
    first, second, third = sorted(
        (survey.asked(path)[0] for path in (ZIP, MAPPING, VOTES)), key=lambda value: value.started
    )
    assert first.ended <= second.started + 0.05
    assert second.ended <= third.started + 0.05


def test_error_of_one_file_stops_the_others_and_their_parts_stay(
    survey: FileServer, quick: Patience, tmp_path: Path
) -> None:
    survey.add(ZIP, make_zip(), serve(pause=0.05, block=4000))
    survey.add(MAPPING, NAMES, fail_after(survey, ZIP, 12_000))
    with pytest.raises(DownloadError, match="404"):
        fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)
    part = tmp_path / "gz2" / "images_gz2.zip.part"
    kept = part.stat().st_size
    assert 0 < kept < len(make_zip())
    survey.add(ZIP, make_zip())
    survey.add(MAPPING, NAMES)
    fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)
    assert (tmp_path / "gz2" / "images" / "11.jpg").exists()
    assert [request.first_byte for request in survey.asked(ZIP)] == [0, kept]


def test_wrong_archive_is_rejected_by_zenodos_checksum(survey: FileServer, quick: Patience, tmp_path: Path) -> None:
    other = bytearray(make_zip())
    other[1000] ^= 1
    survey.add(ZIP, bytes(other))
    with pytest.raises(DownloadError, match=r"the MD5 of the file is .* is published; the file was removed"):
        fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)
    assert not (tmp_path / "gz2" / "images_gz2.zip").exists()
    assert not (tmp_path / "gz2" / "gz2.provenance.json").exists()


ANSWERS = [
    fail(503), send(b"<html>"), send(b"[]"), send(b'{"files": [{}]}'), send(b"[" * 100_000),
    send(b'{"files": [{"key": "a", "size": Infinity, "checksum": ""}]}'), send(b" " * 5_000_000),
    redirect("https://example.org/api"), redirect("//[::1"), truncate(10),
]  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS)
def test_built_in_checksums_serve_if_zenodos_api_does_not_answer(
    answer: object, survey: FileServer, quick: Patience, tmp_path: Path
) -> None:
    survey.add(API, b"{}" * 100, answer)  # type: ignore[arg-type]
    assert read_zenodo("3565489", survey.url, quick, Reach()).files == {}
    fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)
    survey.add(MAPPING, NAMES + b"3,original,12\n")
    with pytest.raises(DownloadError, match=f"the MD5 of the file is .* and {hashlib.md5(NAMES).hexdigest()} is"):
        fetch("gz2", to=tmp_path / "again", base_url=survey.url, patience=quick)


def list_checksums(server: FileServer, *checksums: str, size: int = len(NAMES)) -> None:
    listed = [{"key": "gz2_filename_mapping.csv", "size": size, "checksum": checksum} for checksum in checksums]
    server.add(API, json.dumps({"files": listed}).encode())


@pytest.mark.parametrize(
    ("checksum", "size"), [("md5:" + "0" * 32, len(NAMES)), ("md5:" + hashlib.md5(NAMES).hexdigest(), 10**18)]
)
def test_list_that_contradicts_the_built_in_one_is_rejected(
    checksum: str, size: int, survey: FileServer, quick: Patience, tmp_path: Path
) -> None:
    list_checksums(survey, checksum, size=size)
    with pytest.raises(DownloadError, match=r"^fetch gz2: the list of files gives .* for gz2_filename_mapping\.csv"):
        fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)
    assert [request.path for request in survey.log] == [API]


OTHER = NAMES.replace(b"11", b"12")


@pytest.mark.parametrize("kind", ["sha256", "sha512", "sha1", "SHA1", "crc32", "shake_128", "md5x", "md5", ""])
def test_checksum_of_another_kind_does_not_replace_the_built_in_one(
    kind: str, survey: FileServer, quick: Patience, tmp_path: Path
) -> None:
    usable = kind.lower() in ("sha1", "sha256", "sha512")
    value = hashlib.new(kind.lower(), OTHER).hexdigest() if usable else "ab"
    list_checksums(survey, f"{kind}:{value}")
    survey.add(MAPPING, OTHER)
    with pytest.raises(DownloadError, match=f"the MD5 of the file is {hashlib.md5(OTHER).hexdigest()}, and"):
        fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)


def test_checksum_of_zenodo_binds_beside_the_built_in_one(survey: FileServer, quick: Patience, tmp_path: Path) -> None:
    list_checksums(survey, f"sha512:{hashlib.sha512(OTHER).hexdigest()}")
    with pytest.raises(DownloadError, match=f"the SHA512 of the file is {hashlib.sha512(NAMES).hexdigest()}, and"):
        fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)


def test_table_without_a_published_checksum_is_reported(
    survey: FileServer, quick: Patience, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fetch("hart16", to=tmp_path, base_url=survey.url, patience=quick)
    assert "no checksum of gz2_hart16.csv.gz is published; its archive's own checksums are verified" in caplog.text
    assert json.loads((tmp_path / "gz2/hart16.provenance.json").read_text())["files"][0]["published_checksum"] is None


def test_truncated_table_without_a_checksum_is_found_by_gzip(
    survey: FileServer, quick: Patience, tmp_path: Path
) -> None:
    survey.add(VOTES, gzip.compress(TABLE)[:-20])
    with pytest.raises(DownloadError, match=r"gz2_hart16\.csv\.gz: the archive is damaged"):
        fetch("hart16", to=tmp_path, base_url=survey.url, patience=quick)
    assert not (tmp_path / "gz2" / "gz2_hart16.csv").exists()


def test_archive_is_unpacked_after_a_crash_between_download_and_unpacking(
    survey: FileServer, quick: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_to_unpack(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner, "unpack", fail_to_unpack)
        with pytest.raises(KeyboardInterrupt):
            fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)
    fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)
    assert len(survey.asked(ZIP)) == 1
    assert (tmp_path / "gz2" / "images" / "10.jpg").exists()


def test_second_process_is_rejected(survey: FileServer, quick: Patience, tmp_path: Path) -> None:
    with (
        runner._locked(RECORDS["gz2"], tmp_path / "gz2"),
        pytest.raises(DownloadError, match="another process fetches gz2 into this folder"),
    ):
        fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)
    fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)


def test_interrupted_connection_in_the_middle_of_a_record_is_continued(
    survey: FileServer, quick: Patience, tmp_path: Path
) -> None:
    survey.add(ZIP, make_zip(), truncate(30_000), truncate(20_000), serve())
    fetch("gz2", to=tmp_path, base_url=survey.url, patience=quick)
    assert [request.first_byte for request in survey.asked(ZIP)] == [0, 30_000, 50_000]


def test_every_record_has_licence_citation_homepage_and_https() -> None:
    for record in RECORDS.values():
        assert record.licence
        assert record.citation
        assert record.homepage.startswith("https://")
        for file in record.files:
            assert file.url.startswith("https://")
            assert re.fullmatch(r"|md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", file.checksum)
            assert bool(file.unpack) == bool(file.into)
        assert record.needs in ("", *RECORDS)


def test_unknown_record_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="there is no record 'hart'; did you mean 'hart16'"):
        find_record("hart")


def test_kaggle_names_the_command_of_its_own_tool() -> None:
    with pytest.raises(ConfigError, match="kaggle competitions download -c galaxy-zoo-the-galaxy-challenge"):
        find_record("kaggle")


def test_records_that_share_a_folder_have_files_of_different_names() -> None:
    names = [(record.folder, file.into or file.name) for record in RECORDS.values() for file in record.files]
    assert len(set(names)) == len(names)
