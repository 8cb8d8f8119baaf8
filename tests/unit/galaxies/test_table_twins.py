"""Columns of one name are rejected if they differ; similar names give a warning."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from pyarrow import feather

from raydistill.errors import CatalogError
from raydistill.galaxies.catalog import read_catalog

ECSV = "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: id, datatype: int64}\n# - {name: class, datatype: string}\n"
ECSV += "# - {name: class, datatype: string}\n# schema: astropy-2.0\nid class class\n1 a a\n2 b c\n"
FIELD = '<FIELD name="class" datatype="char" arraysize="*"/>'
VOTABLE = f"""<?xml version="1.0"?>
<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE><TABLE>
<FIELD name="id" datatype="int"/>{FIELD}{FIELD}<DATA><TABLEDATA>
<TR><TD>1</TD><TD>a</TD><TD>a</TD></TR><TR><TD>2</TD><TD>b</TD><TD>c</TD></TR>
</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""
ARROW = pa.table([pa.array([1, 2]), pa.array(["a", "b"]), pa.array(["a", "c"])], names=["id", "class", "class"])


def _written(write: object, *arguments: object) -> bytes:
    content = io.BytesIO()
    write(*arguments, content)  # type: ignore[operator]
    return content.getvalue()


def _fits(second: str) -> bytes:
    columns = [fits.Column("id", "K", array=np.array([1, 2]))]
    columns += [fits.Column(name, "5A", array=np.array(["a", b])) for name, b in (("class", "b"), ("klass", second))]
    content = _written(fits.BinTableHDU.from_columns(columns).writeto)
    return content.replace(b"'klass   '", b"'class   '")  # astropy writes no two of one name


PARQUET = _written(pq.write_table, ARROW)
DIFFER = "has 2 columns 'class', which differ in 1 of 2 rows (first: row 2: b and c); rename or remove one of them"
REFUSED = {
    "q.csv": (b"id,class,class\n1,a,a\n2,b,c\n", DIFFER),
    "blanks.csv": (b"id,class, class \n1,a,a\n2,b,c\n", DIFFER),
    "q.tsv": (b"id\tclass\tclass\n1\ta\ta\n2\tb\tc\n", DIFFER),
    "q.xml": (VOTABLE.encode(), DIFFER),
    "q.feather": (_written(feather.write_feather, ARROW), DIFFER),
    "q.parquet": (PARQUET, DIFFER),
    "q.parquet.gz": (gzip.compress(PARQUET), DIFFER),
    "q.fits": (_fits("c"), DIFFER),
}


@pytest.mark.parametrize("name", REFUSED)
def test_columns_of_one_name_that_differ_are_rejected(tmp_path, name):
    content, sentence = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CatalogError) as caught:
        read_catalog(str(tmp_path / name))
    assert str(caught.value).endswith(f"{name}: {sentence}")


EQUAL = ARROW.set_column(2, "class", ARROW.column(1))
UNUSED = ARROW.rename_columns(["class", "mag", "mag"]).append_column("id", pa.array([1, 2]))
ACCEPTED = {
    "q.csv": b"id,class,class\n1,a,a\n2,b,b\n",
    "unused.csv": b"id,class,mag,mag\n1,a,1,2\n2,b,3,4\n",
    "q.xml": VOTABLE.replace("<TD>c", "<TD>b").encode(),
    "q.feather": _written(feather.write_feather, EQUAL),
    "q.parquet": _written(pq.write_table, EQUAL),
    "unused.parquet": _written(pq.write_table, UNUSED),
    "q.parquet.gz": gzip.compress(_written(pq.write_table, EQUAL)),
    "q.fits": _fits("b"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_equal_or_unused_columns_of_one_name_are_no_error(tmp_path, name, caplog):
    (tmp_path / name).write_bytes(ACCEPTED[name])
    expected = ["1", "2"] if name == "unused.parquet" else ["a", "b"]
    assert read_catalog(str(tmp_path / name))["label"].to_pylist() == expected
    assert not caplog.messages


SIMILAR = {
    "Class": "id,class,Class\n1,a,a\n2,b,c\n",
    "class.1": "id,class,class.1\n1,a,a\n2,b,c\n",
    "class_1": ECSV,
    "class...3": "id,class,class...3\n1,a,a\n2,b,c\n",
}


@pytest.mark.parametrize("other", SIMILAR)
def test_similar_names_that_differ_give_a_warning(tmp_path, other, caplog):
    (tmp_path / "q.txt").write_text(SIMILAR[other])
    assert read_catalog(str(tmp_path / "q.txt"), columns={"label": "class"})["label"].to_pylist() == ["a", "b"]
    what = f"columns 'class' and '{other}' differ in 1 of 2 rows (first: row 2: b and c); 'class' is read"
    assert [message.endswith(f"q.txt: {what}") for message in caplog.messages] == [True]


def test_folder_of_tables_gives_one_warning(tmp_path, caplog):
    for number in (1, 2):
        (tmp_path / f"{number}.csv").write_text(f"id,class,Class\n{number},a,b\n")
    read_catalog(str(tmp_path), columns={"label": "class"})
    assert sum("differ in 2 of 2 rows" in message for message in caplog.messages) == 1
