"""Test how pictures are found by the paths in a table."""

from __future__ import annotations

import logging
import shutil
import unicodedata
from pathlib import Path
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.errors import CatalogError
from raydistill.galaxies import folders as listings
from raydistill.galaxies.catalog import read_catalog
from raydistill.galaxies.pictures.files import FITS_SUFFIXES, is_absolute
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.paths import find_paths
from raydistill.galaxies.tables import find_path_column, open_table


@pytest.fixture(autouse=True)
def _all_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raydistill")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return touch(tmp_path / "images", "1.jpg", "J08/2.jpg", "J08/b/3.PNG", "J09/4.tiff", "J09/4.jpg", "a b/é 5%20.jpg")


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def files(root: Path | str, values: list[str | None], **options: object) -> list[str | None]:
    return find_paths(str(root), values, "file_loc", "t.csv", **options).files  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "file"),
    [
        ("1.jpg", "1.jpg"),
        ("./1.jpg", "1.jpg"),
        (" J08/2.jpg ", "J08/2.jpg"),
        ('"J08/2.jpg"', "J08/2.jpg"),
        ("J08//b/./3.PNG", "J08/b/3.PNG"),
        ("J08/../1.jpg", "1.jpg"),
        (".\\J08\\b\\3.PNG", "J08/b/3.PNG"),
        ("J08\\2.jpg", "J08/2.jpg"),
        ("a b/é 5%20.jpg", "a b/é 5%20.jpg"),
        (unicodedata.normalize("NFD", "a b/é 5%20.jpg"), "a b/é 5%20.jpg"),
        ("{root}/J08/2.jpg", "J08/2.jpg"),
        ("{root}/../images/1.jpg", "1.jpg"),
        ("file://{root}/J08/2.jpg", "J08/2.jpg"),
        ("file://localhost{root}/a%20b/%C3%A9%205%2520.jpg", "a b/é 5%20.jpg"),
        ("file:{root}/1.jpg", "1.jpg"),
        ("images/J08/2.jpg", "J08/2.jpg"),
        ("/nas/other/images/J08/b/3.PNG", "J08/b/3.PNG"),
        ("/J08/2.jpg", "J08/2.jpg"),
        ("C:\\Users\\me\\images\\J08\\2.jpg", "J08/2.jpg"),
        ("\\\\nas\\share\\J08\\2.jpg", "J08/2.jpg"),
        ("D:/J08/2.jpg", "J08/2.jpg"),
        ("J08/2.png", "J08/2.jpg"),
        ("J08/2", "J08/2.jpg"),
        ("J08/b/3.png", "J08/b/3.PNG"),
        ("J09/4.tiff", "J09/4.tiff"),
        ("/nas/images/J08/2.jpeg", "J08/2.jpg"),
        ("j08/2.JPG", "J08/2.jpg"),
        ("/NAS/Images/j08/B/3.png", "J08/b/3.PNG"),
        ("a%20b/%C3%A9%205%2520.jpg", "a b/é 5%20.jpg"),
        ("J08/2%2Ejpg", "J08/2.jpg"),
        ("J08", None),
        ("J08/", None),
        ("J07/2.jpg", None),
        ("6.jpg", None),
        ("1.jpg/x", None),
    ],
)
def test_paths_of_any_kind_are_found(root: Path, value: str, file: str | None) -> None:
    assert files(root, [value.replace("{root}", str(root))]) == [file]
    assert files(f"{root}/", [value.replace("{root}", str(root))]) == [file]


@pytest.mark.parametrize("value", [None, "", "  ", "nan", "None", "--", "''", "."])
def test_row_without_a_path_says_so(root: Path, value: str | None) -> None:
    result = find_paths(str(root), ["1.jpg", value, "x.jpg"], "file_loc", "t.csv")
    assert result.files == ["1.jpg", None, None]
    assert result.tried == ["1.jpg", "", "x.jpg"]
    assert result.reasons == ["", "the table has no path", "no such file"]


@pytest.mark.parametrize("value", ["../x.jpg", "..", "J08/../../x.jpg", "..\\..\\x.jpg", "./../other/1.jpg"])
def test_paths_that_leave_the_folder_are_rejected(root: Path, value: str) -> None:
    with pytest.raises(
        CatalogError, match=r"in row 2 of column 'file_loc' leaves the folder .*; set survey.images.root"
    ):
        files(root, ["1.jpg", value])


def test_path_that_begins_at_the_folder_of_the_table_stays_below_the_root(root: Path) -> None:
    touch(root.parent / "tables", "t.csv")
    table = str(root.parent / "tables" / "t.csv")
    assert find_paths(str(root), ["../images/J08/2.jpg"], "file_loc", table).files == ["J08/2.jpg"]
    with pytest.raises(CatalogError, match="leaves the folder"):
        find_paths(str(root), ["../other/2.jpg"], "file_loc", table)


@pytest.mark.parametrize("value", ["https://x.org/1.jpg", "http://x.org/images/1.jpg", "FTP://x.org/1.jpg"])
def test_addresses_of_the_web_are_rejected(root: Path, value: str) -> None:
    with pytest.raises(CatalogError, match=r"'file_loc' holds addresses of the web .*download the pictures"):
        files(root, [value])


def test_encoded_text_is_rejected(root: Path) -> None:
    for value in ("data:image/png;base64,iVBORw0KGgo", "/9j/" + "A" * 5000):
        with pytest.raises(CatalogError, match=r"'file_loc' holds encoded text, not paths \(row 2: .*decode it into"):
            files(root, ["1.jpg", value])


def test_absolute_paths_outside_the_root_are_read_and_logged_once_if_allowed(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = touch(tmp_path / "other", "7.jpg", "8.jpg")
    values = ["1.jpg", f"{other}/7.jpg", f"file://{other}/8.jpg", f"{other}/9.jpg"]
    with pytest.raises(CatalogError) as error:
        files(root, values)
    assert str(error.value) == (
        f"t.csv: column 'file_loc' names 2 pictures outside of {root} (first: {other}/7.jpg); set survey.images.root to a "
        "folder above all pictures, or survey.images.allow_outside=true if you trust the table"
    )
    assert files(root, values, allow_outside=True) == ["1.jpg", f"{other}/7.jpg", f"{other}/8.jpg", None]
    assert caplog.messages == [f"curate: 2 pictures lie outside survey.images.root, such as {other}/7.jpg"]


def test_link_to_the_root_is_the_root(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "link").symlink_to(root)
    assert files(tmp_path / "link", [f"{root}/1.jpg", f"{tmp_path}/link/J08/2.jpg"]) == ["1.jpg", "J08/2.jpg"]
    assert not caplog.messages


def test_folders_of_another_machine_are_dropped_as_for_most_paths(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = ["/nas/images/1.jpg", "/nas/images/J08/2.jpg", "/nas/images/J08/b/3.PNG", "/nas/images/J09/1.jpg"]
    assert files(root, values) == ["1.jpg", "J08/2.jpg", "J08/b/3.PNG", None]
    assert caplog.messages == [
        f"curate: 3 paths in column 'file_loc' begin in a folder that is not here; '/nas/images' is read as {root}"
    ]


def test_name_alone_is_no_match_where_other_paths_are_complete(root: Path) -> None:
    assert files(root, ["J08/2.jpg", "J09/1.jpg", "J10/1.jpg", "J11/1.jpg"]) == ["J08/2.jpg", None, None, None]


def test_flat_folder_of_pictures_that_had_folders(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    assert files(tmp_path, ["/nas/J08/1.jpg", "/nas/J08/2.jpg", "/nas/J09/3.jpg"]) == ["1.jpg", "2.jpg", "3.jpg"]


def test_case_is_kept_apart_where_two_files_differ_in_it(tmp_path: Path) -> None:
    touch(tmp_path, "A/1.jpg", "a/1.jpg", "b/2.jpg")
    assert files(tmp_path, ["A/1.jpg", "a/1.jpg", "B/2.jpg"]) == ["A/1.jpg", "a/1.jpg", "b/2.jpg"]
    assert files(tmp_path, ["A/1.png", "a/1.png", "B/2.png"]) == ["A/1.jpg", "a/1.jpg", "b/2.jpg"]
    touch(tmp_path, "D/3.jpg", "d/3.jpg")
    assert files(tmp_path / "D", ["3.JPG"]) == ["3.jpg"]
    assert files(tmp_path, ["c/1.jpg", "A/1.jpg"]) == [None, "A/1.jpg"]


def test_names_alone_are_found_in_subfolders_if_they_are_unique(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a/1.jpg", "a/b/2.JPG", "a/3.jpg", "c/3.jpg")
    assert files(tmp_path, ["1.jpg", "2", "3.jpg"]) == ["a/1.jpg", "a/b/2.JPG", None]
    assert caplog.messages == [
        f"curate: 2 names without a folder are those of files in subfolders of {tmp_path}, such as a/1.jpg"
    ]
    assert files(tmp_path, ["x/1.jpg", "x/2.jpg"]) == [None, None]  # the table says another folder


def test_one_file_is_not_the_picture_of_several_paths(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")
    result = find_paths(str(tmp_path), ["/n/train/1.jpg", "/n/test/1.jpg", "/n/train/2.jpg"], "file_loc", "t.csv")
    assert result.files == [None, None, "2.jpg"]
    assert result.reasons == ["several paths of the table fit one file"] * 2 + [""]
    assert (
        "curate: 2 paths are left out: several paths of the table fit one file, such as /n/test/1.jpg"
        in caplog.messages
    )
    touch(tmp_path, "train/x.jpg", "x.jpg")
    assert files(tmp_path, ["x.png", "x.jpg", "1.jpg"]) == [None, "x.jpg", "1.jpg"]


def test_galaxies_with_the_same_picture_give_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert files(root, ["1.jpg", "./1.jpg", "J08/2.jpg"]) == ["1.jpg", "1.jpg", "J08/2.jpg"]
    assert caplog.messages == ["curate: 1 pictures belong to several galaxies each, such as 1.jpg"]


def test_other_suffixes_are_logged_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert files(root, ["1.png", "J08/2.png", "J09/4.jpg", "J08/b/3"]) == [
        "1.jpg", "J08/2.jpg", "J09/4.jpg", "J08/b/3.PNG",
    ]  # fmt: skip
    assert caplog.messages == [
        "curate: 2 pictures have another suffix than column 'file_loc' says, such as 1.jpg for 1.png"
    ]


def test_fits_files_are_found_by_their_paths(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.fits", "a/2.fits.gz", "a/3.FIT", "a/4.jpg")
    values = ["a/1.fits", "a/2.fits", "/x/a/3.fits", "a/4", "a\\1", "a/2"]
    assert files(tmp_path, values[:4], suffixes=FITS_SUFFIXES) == ["a/1.fits", "a/2.fits.gz", "a/3.FIT", None]
    assert files(tmp_path, values[2:], suffixes=FITS_SUFFIXES) == ["a/3.FIT", None, "a/1.fits", "a/2.fits.gz"]


def test_pictures_in_a_store(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryFileSystem()
    for name in ("survey/images/J08/1.jpg", "survey/images/2.jpg", "other/3.jpg"):
        store.pipe(f"/{name}", b"x")
    try:
        root = "memory://survey/images"
        values = ["J08/1.jpg", "memory://survey/images/2.jpg", "memory://other/3.jpg", "/nas/images/J08/1.jpg"]
        with pytest.raises(CatalogError, match=r"names 1 pictures outside of .* \(first: memory://other/3\.jpg\)"):
            files(root, values[:3])
        result = find_paths(root, values[1:], "file_loc", "t.csv")  # it is there for the last one alone
        assert result.files == ["2.jpg", None, "J08/1.jpg"]
        assert result.reasons[1] == "it lies outside of survey.images.root"
        caplog.clear()
        assert files(root, values, allow_outside=True) == ["J08/1.jpg", "2.jpg", "memory://other/3.jpg", None]
        assert caplog.messages == ["curate: 1 pictures lie outside survey.images.root, such as memory://other/3.jpg"]
        assert files(root, ["s4://bucket/images/J08/1.jpg", "images/2.jpg"]) == ["J08/1.jpg", "2.jpg"]
        with pytest.raises(CatalogError, match=r"outside of .* \(first: s4://bucket/images/J08/4\.jpg\)"):
            files(root, ["s4://bucket/images/J08/4.jpg"])
        with pytest.raises(CatalogError, match="unknown storage 's4://'"):
            files(root, ["s4://bucket/images/J08/4.jpg"], allow_outside=True)
        with pytest.raises(CatalogError, match="leaves the folder"):
            files(root, ["memory://survey/images/2.jpg", "../other/3.jpg"])
    finally:
        store.rm("/survey", recursive=True)
        store.rm("/other", recursive=True)


def test_pictures_in_a_zip(root: Path) -> None:
    archive = shutil.make_archive(str(root.parent / "p"), "zip", root.parent, "images")
    values = ["1.jpg", "images/J08/2.jpg", "J08\\b\\3.png", f"{archive}/a b/é 5%20.jpg"]
    assert files(archive, values) == ["1.jpg", "images/J08/2.jpg", "J08/b/3.PNG", "a b/é 5%20.jpg"]
    assert files(archive, ["/nas/images/J08/2.jpg", "/nas/images/J08/b/3.PNG"]) == [
        "images/J08/2.jpg",
        "images/J08/b/3.PNG",
    ]


@pytest.mark.parametrize("value", ["J09/4", "J09/4.png", "/nas/J09/4", "4"])
def test_path_of_several_files_is_rejected_or_the_first_suffix_counts(root, caplog, value):
    what = f"1 paths fit several pictures, such as {'' if value == '4' else 'J09/'}4.jpg and"
    with pytest.raises(
        CatalogError, match=f"{what} .*; write the suffix in column 'file_loc', or set survey.duplicates"
    ):
        files(root, [value])
    assert files(root, [value], duplicates="first") == ["J09/4.jpg"]
    assert what in caplog.text


def test_name_in_two_forms_of_an_accent_is_that_of_the_table(tmp_path):
    names = ["caf\xe9.jpg", "cafe\u0301.jpg"]
    assert files(touch(tmp_path, *names), names) == names


def test_folder_is_listed_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []

    def listing(uri: str, recursive: bool) -> listings.Listing:
        listed.append(uri)
        return listings.list_folder(uri, recursive)

    monkeypatch.setattr("raydistill.galaxies.pictures.files.list_folder", listing)
    assert files(root, ["1.jpg", "J08/2.jpg", "J08/b/3.PNG", "x.jpg"]) == ["1.jpg", "J08/2.jpg", "J08/b/3.PNG", None]
    assert files(root, ["J08/2.jpg", "J08/b/3.PNG"]) == ["J08/2.jpg", "J08/b/3.PNG"]
    assert files(root, ["3", "2.jpg"]) == ["J08/b/3.PNG", "J08/2.jpg"]
    assert listed == [str(root), f"{root}/J08", str(root)]


def test_missing_and_empty_folders_give_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no such image folder"):
        files(tmp_path / "absent", ["1.jpg"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogError, match="the image folder is empty"):
        files(tmp_path / "empty", ["1.jpg"])


names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0:%'\"", exclude_categories=["Cc"]), min_size=1, max_size=6
)
folders = st.lists(names.map(str.strip).filter(lambda name: name not in ("", ".", "..", "~")), max_size=3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(folders, min_size=1, max_size=6),
    st.sampled_from(["{path}", "./{path}", "{root}/{path}", "file://{quoted}", "{windows}", "/nas/x/images/{path}"]),
)
def test_every_spelling_of_a_path_finds_its_own_file(tmp_path_factory, paths, spelling):

    root = tmp_path_factory.mktemp("images")
    stored = sorted({unicodedata.normalize("NFC", "/".join([*path, f"{n}.jpg"])) for n, path in enumerate(paths)})
    touch(root, *stored)
    values = [
        spelling.format(
            path=path, root=root, quoted=quote(f"{root}/{path}"), windows="C:\\images\\" + path.replace("/", "\\")
        )
        for path in stored
    ]
    assert files(root, values) == stored


# ---- the key of the config ----


def test_column_replaces_a_pattern_of_bands():
    images = FitsImages(root="x", pattern="{id}-{band}.fits", path_column="p")
    assert images.files("x/1.fits") == ["x/1.fits"]


@pytest.mark.parametrize(
    ("columns", "path_column"),
    [
        ({"id": [1], "class": ["a"]}, None),
        ({"id": [1], "file_loc": ["/nas/J08/1.png"], "class": ["a"]}, "file_loc"),
        ({"id": [1], "Filename": ["1.JPG"]}, "Filename"),
        ({"id": [1], "image": [None]}, None),
        ({"id": [1, 2], "img": [None, "J08\\1"]}, "img"),
        ({"id": [1], "location": ["New York"], "cutout": ["1.fits.gz"]}, "cutout"),
        ({"id": [1], "image": [b"\xff\xd8/"]}, None),
        ({"id": [1], "profile": [0.5], "path": [["a/b.jpg"]]}, None),
    ],
)
def test_column_that_looks_like_paths_is_found(tmp_path, columns, path_column):
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert find_path_column(open_table(str(tmp_path / "t.parquet"))) == path_column


def test_absolute_paths_are_known_on_every_system():
    assert all(map(is_absolute, ["/x", "s3://b/x", "C:/x", "//nas/x"]))
    assert not any(map(is_absolute, ["x", "./x", "a:b", "~/x", "C:x"]))


def test_table_without_ids_names_the_column_of_paths(tmp_path):
    (tmp_path / "t.csv").write_text("file_name,class\na/1.jpg,round\n")
    with pytest.raises(CatalogError, match=r"set survey\.images\.path_column=file_name; else name one with survey"):
        read_catalog(str(tmp_path / "t.csv"))


parts = st.sampled_from(
    ["a", "B", "b", "images", "..", ".", "", "1.jpg", "1.JPG", "2.png", "2", "é.jpg", "c d", "%61", "~"]
)
separators = st.sampled_from(["/", "\\", "//"])
starts = st.sampled_from(
    ["", "./", "/", "/nas/", "C:\\", "file://", "{root}/", "file://{root}/", "s4://b/", "../", " "]
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(parts, min_size=1, max_size=4), min_size=1, max_size=6),
    st.lists(st.tuples(starts, st.lists(parts, min_size=1, max_size=4), separators), min_size=1, max_size=6),
)
def test_no_path_leaves_the_folder_or_takes_another_name(tmp_path_factory, trees, rows):
    """A file has the name of its path, apart from suffix and case.

    An exact path has its own file.
    """
    root = tmp_path_factory.mktemp("images")
    inside = {"/".join(part for part in tree if part not in ("..", ".", "")) for tree in trees} - {""}
    for name in inside:
        if not any((root / above).is_file() for above in Path(name).parents) and not (root / name).exists():
            touch(root, name)
    values = [start.format(root=root) + separator.join(names) for start, names, separator in rows]
    try:
        result = find_paths(str(root), values, "file_loc", "t.csv")
    except CatalogError:
        return
    for value, file, tried in zip(values, result.files, result.tried, strict=True):
        if (root / value).is_file() and not {"..", "\\"} & {*value.split("/"), *value}:
            assert file is not None
            assert (root / file).samefile(root / value)
        if file is not None:
            at = Path(file) if is_absolute(file) else root / file
            assert at.is_file()
            assert is_absolute(file) == (not at.resolve().is_relative_to(root.resolve()))
            assert ".." not in file.split("/")
            assert unquote(Path(tried).stem).casefold() == unquote(at.stem).casefold()
