"""Rows of text tables that are not galaxies.

Other rows are split by Python's csv module only.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.errors import CatalogError
from raydistill.galaxies.catalog import read_catalog

LABELS = {"1": "a", "2": "b", "3": "c"}


def labels_in(path: Path, text: str) -> dict[str, str]:
    path.write_text(text, encoding="utf-8", newline="")
    catalog = read_catalog(str(path))
    return dict(zip(catalog["object_id"].to_pylist(), catalog["label"].to_pylist(), strict=True))


DRAWN = {
    "PostgreSQL": " GalaxyID | class | ra \n----------+-------+-----\n 1 | a | 1.5\n 2 | b | 2\n 3 | c |\n(3 rows)\n\n",
    "MySQL": "+----+---+\n| GalaxyID | class |\n+----+---+\n| 1 | a |\n| 2 | b |\n| 3 | c |\n+----+---+\n",
    "Markdown": "| GalaxyID | class |\n|---|:---:|\n| 1 | a |\n| 2 | b |\n| 3 | c |\n",
    "reStructuredText": "======== =====\nGalaxyID class\n======== =====\n1 a\n2 b\n3 c\n======== =====\n",
    "astropy's two lines": "GalaxyID class\n-------- -----\n       1     a\n       2     b\n       3     c\n",
}


@pytest.mark.parametrize("text", DRAWN.values(), ids=DRAWN)
@pytest.mark.parametrize("name", ["q.csv", "q.txt"])
def test_drawn_lines_are_no_galaxies(tmp_path, text, name):
    assert labels_in(tmp_path / name, text) == LABELS


@pytest.mark.parametrize("comment", ["# a break", "#", "# one, two", "#\tone, two", "# 4, d", "## x,y", "# x, y, z"])
def test_comments_of_any_width_between_rows_are_skipped(tmp_path, comment):
    text = f"GalaxyID,class\n1,a\n{comment}\n2,b\n3,c\n{comment}\n"
    assert labels_in(tmp_path / "q.csv", text) == LABELS


@pytest.mark.parametrize("blank", ["", "  ", "\t", ",", " , ", '"",""', ",,", "\x1a"])
def test_blank_rows_are_skipped(tmp_path, blank):
    text = f"GalaxyID,class\n1,a\n{blank}\n2,b\n{blank}\n3,c\n{blank}\n"
    assert labels_in(tmp_path / "q.csv", text) == LABELS


def test_skipped_rows_are_logged(tmp_path, caplog):
    caplog.set_level("INFO", "raydistill")
    labels_in(tmp_path / "q.csv", "GalaxyID,class,ra\nlong,char,deg\n1,a,1.5\n# x\n,,\n# x, y, z\n2,b,2\n")
    assert [record.getMessage() for record in caplog.records] == [
        "curate: a row of units or types below the header is skipped",
        "curate: 2 comment lines below the header are skipped",
        "curate: 1 blank rows are skipped",
    ]


@pytest.mark.parametrize("content", [b"GalaxyID,class\n1,a\0\n2,b\n", b"id,class\n1,\0\0\0\n", bytes(range(256)) * 9])
def test_zero_bytes_within_a_table_are_rejected(tmp_path, content):
    (tmp_path / "q.csv").write_bytes(content)
    with pytest.raises(CatalogError, match=r"cannot be read as a csv table \(it holds zero bytes\)"):
        read_catalog(str(tmp_path / "q.csv"))


def test_zero_bytes_at_the_end_are_skipped(tmp_path):
    assert labels_in(tmp_path / "q.csv", "GalaxyID,class\n1,a\n2,b\n3,c\n" + "\0" * 512) == LABELS


def test_row_with_a_label_but_no_id_is_an_error(tmp_path):
    with pytest.raises(CatalogError, match="'GalaxyID' has no id in 1 rows"):
        labels_in(tmp_path / "q.csv", "GalaxyID,class\n1,a\n,b\n")


UNITS = [
    ",,deg",
    "[],[],[deg]",
    "long,char,double",
    "---,---,deg",
    "10N,1S,7N",
    "int64,str,float64",
    ",,h:m:s",
    ",,(deg)",
]


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_row_of_units_or_types_is_no_galaxy(tmp_path, units, delimiter):
    text = f"GalaxyID,class,ra\n{units}\n1,a,1.5\n2,b,2.5\n3,c,3.5\n".replace(",", delimiter)
    assert labels_in(tmp_path / "q.csv", text) == LABELS
    assert read_catalog(str(tmp_path / "q.csv"))["ra"].to_pylist() == [1.5, 2.5, 3.5]


@pytest.mark.parametrize("first", ["1,a,--", "1,a,", "1,a,nan", "1,S,1.5", "1,a,deg", "NGC1,S,"])
def test_first_galaxy_is_no_row_of_units(tmp_path, first):
    text = f"GalaxyID,class,ra\n{first}\n2,b,2.5\n3,c,3.5\n"
    assert list(labels_in(tmp_path / "q.csv", text)) == [first.split(",")[0], "2", "3"]


FURTHER = {
    "one": "GalaxyID,class\n1,a,\n2,b,\n3,c,\n",
    "three": "GalaxyID,class\n1,a,,,\n2,b,,,\n3,c,,,\n",
    "in some rows": "GalaxyID,class\n1,a,\n2,b,, ,\n3,c\n",
    "in the header": "GalaxyID,class,,\n1,a\n2,b\n3,c\n",
    "in some rows and the header": "GalaxyID,class,\n1,a,,\n2,b,\n3,c,\n",
}


@pytest.mark.parametrize("text", FURTHER.values(), ids=FURTHER)
def test_lines_may_end_with_any_number_of_delimiters(tmp_path, text):
    assert labels_in(tmp_path / "q.csv", text) == LABELS


@pytest.mark.parametrize(
    "text",
    [
        "id,class\n1,a,x\n2,b\n",
        "id,class\n1,Smith, J\n2,Doe, J\n",
        "id,class,ra\n1,a\n2,b,3\n",
        "id,class\n1,a,x,0.1\n2,b,y,0.2\n",
        "id class\n1 edge on\n2 no bar\n",
    ],
)
def test_rows_of_another_width_are_rejected(tmp_path, text):
    with pytest.raises(
        CatalogError, match=r"a row has \d fields, and the header names \d columns: 1,|no columns of a known"
    ):
        labels_in(tmp_path / "q.csv", text)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfid,class\n1,a\xe8\n2,b\n", b"id,class\n2,b\n1,a\xe8"])
def test_text_that_is_not_utf8_after_a_mark_or_at_its_end_is_read(tmp_path, content):
    (tmp_path / "q.csv").write_bytes(content)
    catalog = read_catalog(str(tmp_path / "q.csv"))
    assert dict(zip(*(catalog[name].to_pylist() for name in ("object_id", "label")), strict=True)) == {
        "1": "a\xe8",
        "2": "b",
    }


# Header, rows: the names of columns lack that of the index.
INDEXED = {
    "pandas": "GalaxyID,class,ra\n0,17,a,1.5\n1,18,b,2.5\n",
    "pandas after a selection": "GalaxyID,class\n12,17,a\n3,18,b\n",
    "pandas with tabs": "GalaxyID\tclass\n0\t17\ta\n1\t18\tb\n",
    "pandas with ids last": "class,GalaxyID\n0,a,17\n1,b,18\n",
    "pandas with a quoted delimiter": 'GalaxyID,note,class\n0,17,"x, y",a\n1,18,z,b\n',
    "R with names": '"GalaxyID","class"\n"x",17,"a"\n"y",18,"b"\n',
    "R without quotes": "GalaxyID,class\n1,17,a\n2,18,b\n",
    "R with spaces and no quotes": "GalaxyID class\n1 17 a\n2 18 b\n",
    "R with spaces": '"GalaxyID" "class"\n"first" 17 "a"\n"second" 18 "b"\n',
}


@pytest.mark.parametrize("text", INDEXED.values(), ids=INDEXED)
def test_header_without_a_name_for_the_index_is_read_with_a_warning(tmp_path, text, caplog):
    assert labels_in(tmp_path / "q.csv", text) == {"17": "a", "18": "b"}
    assert "the header of q.csv has one name less than the rows" in caplog.text


# The ids are the index, without a name.
IDS_IN_INDEX = {
    "pandas": (",class,ra\ng1,a,1.5\ng2,b,2.5\n", ["g1", "g2"]),
    "pandas with tabs": ("\tclass\tra\n1237648720693755918\ta\t1\n1237648720693755919\tb\t2\n", None),
    "R": ('"","class"\n"g1","a"\n"g2","b"\n', ["g1", "g2"]),
    "R without its name": ('"class","ra"\n"g1","a",1\n"g2","b",2\n', ["g1", "g2"]),
    "R with spaces": ('"class" "ra"\n"g1" "a" 1\n"g2" "b" 2\n', ["g1", "g2"]),
}


@pytest.mark.parametrize(("text", "ids"), IDS_IN_INDEX.values(), ids=IDS_IN_INDEX)
def test_ids_are_read_from_an_index_with_a_warning(tmp_path, text, ids, caplog):
    (tmp_path / "q.csv").write_text(text)
    catalog = read_catalog(str(tmp_path / "q.csv"))
    assert catalog["object_id"].to_pylist() == (ids or ["1237648720693755918", "1237648720693755919"])
    assert catalog["label"].to_pylist() == ["a", "b"]
    assert "q.csv has no id column; the ids are read from its index" in caplog.text


def test_index_of_no_rows_is_a_table_without_rows(tmp_path):
    (tmp_path / "q.csv").write_text(",ra,dec,class\n")
    with pytest.raises(CatalogError, match="the table has no rows"):
        read_catalog(str(tmp_path / "q.csv"))


@pytest.mark.parametrize("index", [(0, 1, 2), (1, 2, 3), (7, 2, 19)], ids=["pandas", "R", "a selection"])
def test_index_that_may_count_rows_gives_no_ids(tmp_path, index):
    uri = tmp_path / "q.csv"
    uri.write_text(",class\n" + "".join(f"{number},a\n" for number in index))
    with pytest.raises(CatalogError, match="its index may hold numbers of rows; name a column with"):
        read_catalog(str(uri))
    with pytest.raises(CatalogError, match=r"no column 'objid'.*one column has no name, as an index: write its name"):
        read_catalog(str(uri), columns={"id": "objid"})
    assert read_catalog(str(uri), columns={"id": "Unnamed: 0"})["object_id"].to_pylist() == [str(n) for n in index]


QUOTES = {
    "single quotes": "'GalaxyID','class'\n'1','a'\n'2','b'\n'3','c'\n",
    "single quotes below a plain header": "GalaxyID,class\n1,'a'\n2,'b'\n3,'c'\n",
    "blanks before quotes": 'GalaxyID, "class"\n1, "a"\n2,  "b"\n3, "c"\n',
    "R's names of rows": '"GalaxyID" "class"\n"1" 1 "a"\n"2" 2 "b"\n"3" 3 "c"\n',
    "R's names of rows with commas": '"GalaxyID","class"\n"1",1,"a"\n"2",2,"b"\n"3",3,"c"\n',
}


@pytest.mark.parametrize("text", QUOTES.values(), ids=QUOTES)
def test_quotes_of_other_programs(tmp_path, text):
    assert labels_in(tmp_path / "q.txt", text) == LABELS


def test_quotes_inside_fields_may_be_escaped(tmp_path):
    text = 'GalaxyID,note,class\n1,"6\\" seeing, bad","a \\"thin\\" one"\n2,x,b\n'
    assert labels_in(tmp_path / "q.csv", text) == {"1": 'a "thin" one', "2": "b"}
    text = 'GalaxyID,note,class\n1,C:\\data,a\n2,"D:\\",b\n'
    assert labels_in(tmp_path / "q.csv", text) == {"1": "a", "2": "b"}


def test_new_lines_in_a_quoted_label_are_blanks(tmp_path):
    text = 'GalaxyID, "class"\n1, "a\nb"\n2, "c\u2028d\x85e"\n3, größer\n'
    assert labels_in(tmp_path / "q.csv", text) == {"1": "a b", "2": "c d e", "3": "größer"}


# ---- fixed widths ----

ROWS = [("1", "a", "1.5"), ("2", "", "22.5"), ("3", "Sb ring", ""), ("17", "edge on", "3")]


def fixed(rows: list[tuple[str, ...]], right: bool, gap: int) -> str:
    table = [("GalaxyID", "class", "ra"), *rows]
    widths = [max(len(row[i]) for row in table) + gap for i in range(3)]
    lines = [
        "".join(f"{field:{'>' if right else '<'}{width}}" for field, width in zip(row, widths, strict=True))
        for row in table
    ]
    return "".join(line.rstrip() + "\n" for line in lines)


@pytest.mark.parametrize("right", [False, True], ids=["left", "right"])
@pytest.mark.parametrize("name", ["q.txt", "q.dat", "q.csv", "q"])
def test_columns_of_fixed_width_may_have_blanks_and_empty_fields(tmp_path, right, name, caplog):
    caplog.set_level("INFO", "raydistill")
    assert labels_in(tmp_path / name, fixed(ROWS, right, 2)) == {"1": "a", "2": "", "3": "Sb ring", "17": "edge on"}
    assert read_catalog(str(tmp_path / name))["ra"].to_pylist() == [1.5, 22.5, None, 3.0]
    assert "curate: columns of fixed width" in caplog.text


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "E", "Sb ring", "edge on"]), st.sampled_from(["", "1.5", "120"])),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
    st.integers(1, 4),
)
def test_any_table_of_fixed_width_is_read_right_or_rejected(tmp_path_factory, cells, right, gap):
    rows = [("0", "E", "0.5"), *((str(number), *cell) for number, cell in enumerate(cells, 1))]
    path = tmp_path_factory.mktemp("t") / "q.txt"
    try:
        result = labels_in(path, fixed(rows, right, gap))
    except CatalogError:
        return
    assert result == {number: label for number, label, _ in rows}


def test_field_that_reaches_into_the_next_column_is_rejected(tmp_path):
    rows = [
        (str(number), "Sb ring" if number % 2 else "E", "" if number % 3 else "1.5") for number in range(1000, 3000)
    ]
    text = fixed(rows, False, 1) + "99999999999 x y   1.5\n"
    with pytest.raises(CatalogError, match="a field reaches beyond its column: 99999999999 x y"):
        labels_in(tmp_path / "q.txt", text)


def test_quotes_of_topcat_are_no_part_of_a_field_of_fixed_width(tmp_path):
    text = '# GalaxyID class     ra\n  1        a         1.5\n  2        "b c"     2.5\n  3        c         ""\n'
    assert labels_in(tmp_path / "q.txt", text) == {"1": "a", "2": "b c", "3": "c"}
    assert read_catalog(str(tmp_path / "q.txt"))["ra"].to_pylist() == [1.5, 2.5, None]


@pytest.mark.parametrize("count", [999, 1000, 1001, 20_000])
@pytest.mark.parametrize("above", ["# one, two\n", "\n", "#\n\n"])
def test_header_may_be_below_thousands_of_lines(tmp_path, count, above):
    assert labels_in(tmp_path / "q.csv", above * count + "GalaxyID,class\n1,a\n2,b\n3,c\n") == LABELS


@pytest.mark.parametrize("delimiter", [",", "\t", " "])
def test_header_that_is_repeated_in_joined_files_is_no_galaxy(tmp_path, delimiter, caplog):
    caplog.set_level("INFO", "raydistill")
    header = "GalaxyID,class,ra\n"
    text = f"{header}1,a,1.5\n{header}2,b,2.5\n{header}3,c,3.5\n".replace(",", delimiter)
    assert labels_in(tmp_path / "q.csv", text) == LABELS
    assert "curate: 2 further rows with the header are skipped" in caplog.text
    assert read_catalog(str(tmp_path / "q.csv"))["ra"].to_pylist() == [1.5, 2.5, 3.5]


def test_galaxy_with_the_name_of_a_column_stays(tmp_path):
    assert labels_in(tmp_path / "q.csv", "id,class\nid,a\n2,class\n") == {"id": "a", "2": "class"}


@pytest.mark.parametrize("last", ["123 c", "12345678 c", "3        c", "3 c\nGalaxyID class"])
def test_rows_that_are_not_aligned_are_split_at_their_blanks(tmp_path, last):
    result = labels_in(tmp_path / "q.txt", f"GalaxyID class\n1 a\n2 b\n{last}\n")
    assert result == {"1": "a", "2": "b", last.split()[0]: "c"}


# ---- all together ----

NAMES = ("GalaxyID", "class", "ra")
FIELDS = [("587722981736120347", "Sb", "1.5"), ("000123", "E 0", "22.25"), ("17", "", "359"), ("NGC 1", "x;y", "0.5")]


def quoted(field: str, quote: str) -> str:
    return quote + field + quote if quote else field


@settings(max_examples=60, deadline=None)
@given(
    delimiter=st.sampled_from([",", "\t", "|"]),
    quote=st.sampled_from(["", '"', "'"]),
    blank=st.sampled_from(["", " "]),
    units=st.sampled_from([None, ("", "", "deg"), ("[]", "[]", "[deg]"), ("string", "string", "double")]),
    rule=st.booleans(),
    between=st.lists(st.sampled_from(["", "   ", "# note", "# a, b, c", "header", "delimiters"]), max_size=4),
    more=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_style_with_any_rows_between_is_read_right(
    tmp_path_factory, delimiter, quote, blank, units, rule, between, more, encoding
):
    def join(fields: tuple[str, ...], count: int = 0) -> str:
        return f"{delimiter}{blank}".join(quoted(field, quote) for field in fields) + delimiter * count

    header = join(NAMES)
    others = {"header": header, "delimiters": delimiter * 2, "# a, b, c": delimiter.join(("# a", "b", "c"))}
    lines = [header, *([join(units)] if units else []), *([delimiter.join(["----"] * 3)] if rule else [])]
    for number, fields in enumerate(FIELDS):
        lines.append(join(fields, more[number]))
        lines += [others.get(line, line) for line in between[number : number + 1]]
    path = tmp_path_factory.mktemp("t") / "q.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    catalog = read_catalog(str(path))
    assert catalog["object_id"].to_pylist() == [fields[0] for fields in FIELDS]
    assert catalog["label"].to_pylist() == [fields[1] for fields in FIELDS]
    assert catalog["ra"].to_pylist() == [float(fields[2]) for fields in FIELDS]
