"""Tests of tables as people have them.

They cover lines around a header, delimiters, encodings and containers.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.errors import CatalogError
from raydistill.galaxies.catalog import read_catalog, read_filename_mapping
from raydistill.galaxies.tables import open_table

ROWS = [("673957", "round"), ("973168", "spiral, barred"), ("561766", 'edge-on "thin"'), ("000017", "größer")]
LABELS = {"673957": "round", "973168": "spiral, barred", "561766": 'edge-on "thin"', "000017": "größer"}


def quoted(field: str, delimiter: str) -> str:
    special = any(mark in field for mark in (delimiter, '"', " "))
    return '"' + field.replace('"', '""') + '"' if special else field


def text_of(delimiter: str = ",", above: str = "", header: str = "", newline: str = "\n", rows=ROWS) -> str:
    lines = [header or delimiter.join(("GalaxyID", "class"))]
    lines += [delimiter.join(quoted(field, delimiter) for field in row) for row in rows]
    return (above + "\n".join(lines) + "\n").replace("\n", newline)


def labels_in(path: Path, **options) -> dict[str, str]:
    catalog = read_catalog(str(path), **options)
    return dict(zip(catalog["object_id"].to_pylist(), catalog["label"].to_pylist(), strict=True))


ABOVE = {
    "nothing": "",
    "SkyServer": "#Table1\n",
    "comments": "# made with TOPCAT, v4\n# 2024\n",
    "a comment with a quote": '# seeing 6", "bad\n',
    "blank lines": "\n  \n",
    "rows of a spreadsheet": ",\n,\n",
    "a title": "My galaxies\n\n",
    "marks of other programs": "% MATLAB\n! IDL\n// C\n",
}


@pytest.mark.parametrize("above", ABOVE.values(), ids=ABOVE)
@pytest.mark.parametrize("columns", [None, {"id": "galaxyid", "label": "CLASS"}], ids=["usual", "configured"])
def test_header_is_found_below_other_lines(tmp_path, above, columns):
    path = tmp_path / "q.csv"
    path.write_text(text_of(above=above), encoding="utf-8")
    assert labels_in(path, columns=columns) == LABELS


@pytest.mark.parametrize("mark", ["# ", "#", "% ", "// "])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", " "])
def test_header_may_be_a_comment(tmp_path, mark, delimiter):
    path = tmp_path / "q.csv"
    header = mark + delimiter.join(("GalaxyID", "class"))
    path.write_text(text_of(delimiter, "# made by hand, 2024\n", header), encoding="utf-8")
    assert labels_in(path) == LABELS


def test_configured_name_may_have_the_mark_of_its_comment(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text("#name,kind\na,E\nb,S\n")
    for name in ("#name", "name"):
        assert labels_in(path, columns={"id": name, "label": "kind"}) == {"a": "E", "b": "S"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("name", ["q.csv", "q.tsv", "q.txt", "q.dat", "q"])
def test_delimiter_is_found(tmp_path, delimiter, name):
    path = tmp_path / name
    path.write_text(text_of(delimiter), encoding="utf-8")
    assert labels_in(path) == LABELS
    assert labels_in(path, columns={"id": "GalaxyID", "label": "class"}) == LABELS


def test_guesses_are_logged_once(tmp_path, caplog):
    caplog.set_level("INFO", "raydistill")
    (tmp_path / "q.csv").write_text(text_of(";", "#Table1\n"), encoding="utf-16")
    read_catalog(str(tmp_path / "q.csv"))
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "curate: text encoded as utf-16",
        "curate: columns separated by ';'",
        "curate: header in line 2",
    ]
    caplog.clear()
    (tmp_path / "q.csv").write_text(text_of(), encoding="utf-8")
    read_catalog(str(tmp_path / "q.csv"))
    assert not caplog.records


def test_excel_declares_its_delimiter(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text(text_of(";", above="sep=;\n", newline="\r\n"), encoding="utf-8-sig")
    assert labels_in(path) == LABELS


def test_vizier_rows_of_units_are_no_galaxies(tmp_path):
    path = tmp_path / "vizier.tsv"
    path.write_text(
        "#\n#   VizieR\n#Name: J/MNRAS/435/2835\n\nGalaxyID\tclass\tra\n\t\tdeg\n---\t-----\t---\n1\tE\t1.5\n2\tS\t2.5\n"
    )
    catalog = read_catalog(str(path))
    assert catalog["object_id"].to_pylist() == ["1", "2"]
    assert catalog["ra"].to_pylist() == [1.5, 2.5]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, newline):
    path = tmp_path / "q.csv"
    path.write_bytes(text_of(newline=newline).encode(encoding))
    assert labels_in(path) == LABELS


def test_letters_that_are_not_utf8_may_stand_far_below(tmp_path):
    rows = [(str(n), "E" * 40) for n in range(40_000)] + [("last", "größer")]
    (tmp_path / "q.csv").write_bytes(text_of(rows=rows).encode("cp1252"))
    assert labels_in(tmp_path / "q.csv")["last"] == "größer"


def packed(kind: str, content: bytes) -> bytes:
    if kind == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("__MACOSX/._q.csv", b"\0\1")
            archive.writestr("README.txt", "about, it\n")
            archive.writestr("folder/q.csv", content)
        return buffer.getvalue()
    if kind == "zst":
        return pa.compress(content, "zstd", asbytes=True)
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind](content)


KINDS = ["gz", "bz2", "xz", "zst", "zip"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["q.csv", "Q.CSV.{}", "q", "q.tsv"])
def test_compression_is_found_without_its_suffix(tmp_path, kind, name):
    path = tmp_path / name.format(kind.upper())
    path.write_bytes(packed(kind, text_of().encode()))
    assert labels_in(path) == LABELS


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(KINDS), max_size=3),
    st.sampled_from([",", ";", "\t", "|", " "]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"]),
    st.sampled_from(sorted(ABOVE)),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["q.csv", "q.tsv", "q.dat", "q"]),
)
def test_any_text_in_any_container_is_read_right(tmp_path_factory, kinds, delimiter, encoding, above, newline, name):
    content = text_of(delimiter, ABOVE[above], newline=newline).encode(encoding)
    for kind in kinds:
        content = packed(kind, content)
    path = tmp_path_factory.mktemp("t") / name
    path.write_bytes(content)
    assert labels_in(path) == LABELS


def test_table_of_a_zip_with_several_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("train.csv", text_of())
        archive.writestr("test.csv", text_of())
    with pytest.raises(CatalogError, match=r"the zip holds 2 tables; name one with survey\.hdu=NAME; .*train\.csv"):
        read_catalog(str(tmp_path / "two.zip"))
    assert labels_in(tmp_path / "two.zip", hdu="train.csv") == LABELS


def test_decompression_bombs_are_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr("raydistill.galaxies.tables.content.SMALL", 1 << 22)
    zeros = b"000000,0\n" * (1 << 17)
    with (
        zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("q.csv", "w") as stream,
    ):
        stream.write(b"GalaxyID,class\n")
        for _ in range(9):
            stream.write(zeros)
    with gzip.open(tmp_path / "bomb.csv", "wb", compresslevel=9) as stream:
        stream.write(b"GalaxyID,class\n")
        for _ in range(9):
            stream.write(zeros)
    for name in ("bomb.zip", "bomb.csv"):
        with pytest.raises(CatalogError, match="unpacks to more than 200 times its size"):
            read_catalog(str(tmp_path / name))


NO_TABLES = {
    "q.csv": (b"<!DOCTYPE html><html>404</html>", "this is a web page"),
    "p.csv": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "q.h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "this is an HDF5 file"),
    "q.db": (b"SQLite format 3\0" + bytes(100), "SQLite database"),
    "q.xls": (b"\xd0\xcf\x11\xe0" + bytes(100), "Excel workbook"),
    "q.csv.Z": (b"\x1f\x9d\x90", "uncompress"),
    "q.csv.gz": (gzip.compress(text_of().encode() * 1000)[:60], "cannot be read"),
    "q.csv.xz": (lzma.compress(text_of().encode() * 1000)[:90], "cannot be read"),
    "q.zip": (packed("zip", b"id,class\n")[:-30], "cannot be read"),
    "list.yaml": (b"name: own\nsurvey: {kind: catalog, catalog: x}\n", r"unknown table format; give a \.csv"),
}


@pytest.mark.parametrize("name", NO_TABLES)
def test_files_that_are_no_tables_are_named(tmp_path, name):
    content, sentence = NO_TABLES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CatalogError, match=sentence) as caught:
        read_catalog(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_excel_workbook_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "q.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    with pytest.raises(CatalogError, match="this is an Excel workbook; save the sheet as CSV"):
        read_catalog(str(tmp_path / "q.xlsx"))


# ---- rows ----


def test_rows_may_end_with_a_delimiter(tmp_path):
    (tmp_path / "q.csv").write_text("GalaxyID,class\n1,round,\n2,edge,\n")
    assert labels_in(tmp_path / "q.csv") == {"1": "round", "2": "edge"}
    (tmp_path / "q.csv").write_text("GalaxyID,class\n1,round,x\n2,edge,y\n")
    with pytest.raises(
        CatalogError, match="a row has 3 fields, and the header names 2 columns: 1,round,x; quote texts"
    ):
        read_catalog(str(tmp_path / "q.csv"))


def test_comments_and_blank_lines_between_rows_are_skipped(tmp_path):
    (tmp_path / "q.csv").write_text("id,class\n1,round\n\n# a break\n2,edge\n#3,b\n# end\n")
    assert labels_in(tmp_path / "q.csv") == {"1": "round", "2": "edge", "#3": "b"}


def test_several_tables_of_skyserver_in_one_file_are_rejected(tmp_path):
    (tmp_path / "q.csv").write_text("#Table1\nid,class\n1,round\n\n#Table2\nid,class\n2,edge\n")
    with pytest.raises(CatalogError, match="the file holds several tables"):
        read_catalog(str(tmp_path / "q.csv"))


def test_quoted_fields_may_hold_new_lines(tmp_path):
    rows = [(str(n), "a\nb" if n % 97 == 0 else "E") for n in range(200_000)]
    (tmp_path / "q.csv").write_text('GalaxyID,"class\nof galaxy",note\n' + "".join(f'{i},x,"{c}"\n' for i, c in rows))
    catalog = read_catalog(str(tmp_path / "q.csv"), columns={"label": "note"})
    assert catalog["label"].to_pylist() == [label.replace("\n", " ") for _, label in rows]


# ---- names of columns ----


def test_upper_and_lower_case_of_names_are_the_same_unless_two_fit(tmp_path):
    (tmp_path / "q.csv").write_text("OBJECT,Kind,kind\n1,a,b\n")
    assert labels_in(tmp_path / "q.csv", columns={"id": "object", "label": "Kind"}) == {"1": "a"}
    with pytest.raises(CatalogError, match="has the columns Kind, kind, and 'KIND' is none of them"):
        read_catalog(str(tmp_path / "q.csv"), columns={"id": "object", "label": "KIND"})
    with pytest.raises(CatalogError, match="did you mean 'OBJECT'"):
        read_catalog(str(tmp_path / "q.csv"), columns={"id": "objekt", "label": "Kind"})
    (tmp_path / "m.csv").write_text("OBJID,SAMPLE,ASSET_ID\n1,x,7\n")
    assert read_filename_mapping(str(tmp_path / "m.csv")) == {"1": ("7",)}


def test_columns_of_a_schema_may_be_upper_case(tmp_path):
    names = [f"CLASS{question}.{answer}" for question, answers in enumerate((3, 2, 2, 2, 4, 2, 3, 7, 3, 3, 6), 1)
             for answer in range(1, answers + 1)]  # fmt: skip
    table = pa.table({"GALAXYID": [1], **{name: [0.5] for name in names}})
    pacsv.write_csv(table, tmp_path / "q.csv")
    catalog = read_catalog(str(tmp_path / "q.csv"))
    assert catalog.schema.metadata[b"raydistill.dialect"] == b"kaggle"
    assert np.isfinite(catalog["votes"][0].as_py()).all()


def test_plain_tables_are_read_as_before(tmp_path):
    text = "id,ra,note\n1,1.5,a\n2,,b\n"
    (tmp_path / "q.csv").write_text(text)
    expected = pacsv.read_csv(io.BytesIO(text.encode()))
    columns = ["id", "ra", "note"]
    assert open_table(str(tmp_path / "q.csv"), columns).read(columns).equals(expected)
    pq.write_table(expected, tmp_path / "q.parquet")
    assert open_table(str(tmp_path / "q.parquet")).names == ["id", "ra", "note"]
