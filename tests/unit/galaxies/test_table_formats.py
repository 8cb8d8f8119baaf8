"""Tests of table formats: each holds the same galaxies.

Damaged files give one sentence.
"""

from __future__ import annotations

import gzip
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import MaskedColumn, Table
from pyarrow import feather

from raydistill.errors import CatalogError
from raydistill.galaxies.catalog import read_catalog
from raydistill.galaxies.tables import open_table

IDS = ["587732578312454276", "587729154670395609", "588017702388760720"]
LABELS = ["round", "spiral", None]
REDSHIFTS = [0.1, None, 0.25]
RA = [1.5, 188.73625, 359.0]


def astropy_table() -> Table:
    return Table(
        {
            "objid": np.array(IDS, np.int64),
            "class": MaskedColumn([label or "-" for label in LABELS], mask=[label is None for label in LABELS]),
            "redshift": MaskedColumn([z or 0 for z in REDSHIFTS], mask=[z is None for z in REDSHIFTS]),
            "ra": RA,
        }
    )


def arrow_table() -> pa.Table:
    return pa.table({"objid": np.array(IDS, np.int64), "class": LABELS, "redshift": REDSHIFTS, "ra": RA})


def assert_galaxies(catalog: pa.Table, missing: str | None = None) -> None:
    assert catalog["object_id"].to_pylist() == IDS
    assert catalog["label"].to_pylist() == [label or missing for label in LABELS]
    assert catalog["redshift"].to_pylist() == REDSHIFTS
    assert catalog["ra"].to_pylist() == RA


CDS = """\
Title: Morphologies
Authors: N. N.
================================================================================
Byte-by-byte Description of file: labels.dat
--------------------------------------------------------------------------------
   Bytes Format Units  Label     Explanations
--------------------------------------------------------------------------------
   1- 18 I18    ---    objid     SDSS id
  20- 25 A6     ---    class     ? Class
  27- 30 F4.2   ---    redshift  ?=9.99 Redshift
  32- 40 F9.5   deg    ra        Right ascension
--------------------------------------------------------------------------------
"""
CDS_ROWS = """\
587732578312454276 round  0.10   1.50000
587729154670395609 spiral 9.99 188.73625
588017702388760720        0.25 359.00000
"""


def write(path: Path, kind: str) -> None:
    table = astropy_table()
    if kind == "votable":
        table.write(path, format="votable")
    elif kind == "votable-binary2":
        from_table(table).to_xml(str(path), tabledata_format="binary2")
    elif kind in ("ecsv", "ipac"):
        table.write(path, format=f"ascii.{kind}")
    elif kind == "mrt":
        path.write_text(CDS + CDS_ROWS)
    elif kind == "feather":
        feather.write_feather(arrow_table(), path)
    elif kind == "arrow":
        with pa.ipc.new_file(path, arrow_table().schema) as writer:
            writer.write_table(arrow_table())
    elif kind == "parquet":
        pq.write_table(arrow_table(), path)
    elif kind == "fits":
        table.write(path, format="fits")


FORMATS = {
    "votable": ".vot",
    "votable-binary2": ".xml",
    "ecsv": ".ecsv",
    "ipac": ".tbl",
    "mrt": ".mrt",
    "feather": ".feather",
    "arrow": ".arrow",
    "parquet": ".parquet",
    "fits": ".fits",
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("packing", ["", ".gz", ".zip"])
def test_formats_hold_the_same_galaxies(tmp_path, kind, packing):
    path = tmp_path / f"labels{FORMATS[kind]}"
    write(path, kind)
    if packing == ".gz":
        packed = tmp_path / f"{path.name}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    elif packing == ".zip":
        with zipfile.ZipFile(tmp_path / "labels.zip", "w") as archive:
            archive.write(path, path.name)
        path = tmp_path / "labels.zip"
    catalog = read_catalog(str(path))
    assert_galaxies(catalog, missing=catalog["label"][2].as_py())
    assert catalog["label"][2].as_py() in (None, "", "-", "N/A")


@pytest.mark.parametrize("kind", ["votable", "ecsv", "feather", "arrow", "parquet", "fits", "mrt"])
@pytest.mark.parametrize("name", ["labels", "labels.txt", "labels.csv"])
def test_content_decides_the_format_before_the_suffix(tmp_path, kind, name):
    write(tmp_path / name, kind)
    assert read_catalog(str(tmp_path / name))["object_id"].to_pylist() == IDS


@pytest.mark.parametrize("name", ["labels.dat", "labels.dat.gz"])
def test_cds_table_has_its_readme_beside_it(tmp_path, name):
    (tmp_path / "ReadMe").write_text(CDS)
    content = CDS_ROWS.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    catalog = read_catalog(str(tmp_path / name))
    assert_galaxies(catalog, missing=catalog["label"][2].as_py())


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("part", [0.3, 0.7, 0.98])
def test_damaged_files_give_one_sentence(tmp_path, kind, part):
    path = tmp_path / f"labels{FORMATS[kind]}"
    write(path, kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    try:
        catalog = read_catalog(str(path))
    except CatalogError as error:
        sentence = str(error)
    else:  # a text may lack its last rows
        assert kind in ("ecsv", "mrt", "ipac", "votable")
        assert catalog["object_id"].to_pylist() == IDS[: len(catalog)]
        return
    assert str(path) in sentence
    assert "\n" not in sentence


# ---- several tables in a file ----


def fits_with_two_tables(path: Path) -> None:
    about = Table({"key": ["author"], "value": ["N. N."]})
    hdus = [fits.PrimaryHDU(), fits.table_to_hdu(about), fits.table_to_hdu(astropy_table())]
    hdus[1].name, hdus[2].name = "ABOUT", "Galaxies"
    fits.HDUList(hdus).writeto(path)


@pytest.mark.parametrize("hdu", [None, 2, "2", "galaxies", "GALAXIES"])
def test_fits_table_beyond_the_first_is_read(tmp_path, hdu):
    fits_with_two_tables(tmp_path / "two.fits")
    assert read_catalog(str(tmp_path / "two.fits"), hdu=hdu)["object_id"].to_pylist() == IDS


def test_first_fits_table_is_read_if_several_fit(tmp_path):
    first, second = astropy_table(), astropy_table()
    second["objid"] += 1
    fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(first), fits.table_to_hdu(second)]).writeto(
        tmp_path / "two.fits"
    )
    assert read_catalog(str(tmp_path / "two.fits"))["object_id"].to_pylist() == IDS
    assert read_catalog(str(tmp_path / "two.fits"), hdu=2)["object_id"].to_pylist() == [str(int(i) + 1) for i in IDS]


def test_missing_fits_extension_names_the_tables(tmp_path):
    fits_with_two_tables(tmp_path / "two.fits")
    for hdu in (0, 3, "stars"):
        with pytest.raises(CatalogError, match=rf"no table in extension '{hdu}'; .*1 ABOUT, 2 GALAXIES"):
            read_catalog(str(tmp_path / "two.fits"), hdu=hdu)


def test_votable_with_several_tables_needs_a_name(tmp_path):
    from astropy.io.votable.tree import Resource, VOTableFile

    votable, resource = VOTableFile(), Resource()
    votable.resources.append(resource)
    for name in ("about", "galaxies"):
        table = from_table(astropy_table()).get_first_table()
        table.name = table.ID = name
        resource.tables.append(table)
    votable.to_xml(str(tmp_path / "two.vot"))
    with pytest.raises(CatalogError, match=r"there are several tables; .*survey\.hdu=NAME.*0 about, 1 galaxies"):
        read_catalog(str(tmp_path / "two.vot"))
    for hdu in (1, "galaxies"):
        assert read_catalog(str(tmp_path / "two.vot"), hdu=hdu)["object_id"].to_pylist() == IDS


# ---- folders ----


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "fits", "ecsv"])
def test_folder_of_files_is_one_table(tmp_path, kind):
    names = ["a-0", "a-1", "a-2"]
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / ".gitattributes").write_text("*.parquet filter=lfs\n")
    (tmp_path / "data").mkdir()
    for i, name in enumerate(names):
        path = tmp_path / "data" / f"{name}.{kind}"
        if kind.startswith("csv"):
            pacsv.write_csv(arrow_table().slice(i, 1), str(path).removesuffix(".gz"))
            if kind == "csv.gz":
                plain = path.with_suffix("")
                path.write_bytes(gzip.compress(plain.read_bytes()))
                plain.unlink()
        elif kind == "parquet":
            pq.write_table(arrow_table().slice(i, 1), path)
        else:
            astropy_table()[i : i + 1].write(path, format="fits" if kind == "fits" else "ascii.ecsv")
    catalog = read_catalog(str(tmp_path))
    assert_galaxies(catalog, missing=catalog["label"][2].as_py())


def test_columns_of_a_folder_may_have_other_types_in_some_files(tmp_path):
    (tmp_path / "a.csv").write_text("id,class,redshift\n1,E,0.123456789012345\n")
    (tmp_path / "b.csv").write_text("redshift,id,class\n--,2,S\n")
    catalog = read_catalog(str(tmp_path))
    assert catalog["redshift"].to_pylist() == [0.123456789012345, None]


def test_folders_that_are_no_table_give_one_sentence(tmp_path):
    (tmp_path / "a.csv").write_text("id,class\n1,E\n")
    (tmp_path / "b.csv").write_text("id,kind\n2,S\n")
    with pytest.raises(CatalogError, match=r"b\.csv: has no column 'class', unlike .*a\.csv; give one file"):
        read_catalog(str(tmp_path))
    pq.write_table(arrow_table(), tmp_path / "c.parquet")
    with pytest.raises(CatalogError, match=r"tables of several formats \(parquet, text\); give one file"):
        read_catalog(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogError):
        read_catalog(str(tmp_path / "empty"))


def test_order_of_a_parquet_folder_does_not_depend_on_a_readme(tmp_path):
    for name in ("b", "a", "c"):
        pq.write_table(pa.table({"id": [name], "class": ["E"]}), tmp_path / f"{name}.parquet")
    before = open_table(str(tmp_path)).read(["id"])
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "dataset_infos.json").write_text("{}")
    assert open_table(str(tmp_path)).read(["id"]).equals(before)
    assert open_table(str(tmp_path)).names == ["id", "class"]


def test_arrow_stream_of_hugging_face_is_read(tmp_path):
    for name in ("data-00000-of-00001.arrow", "q.feather", "q"):
        with pa.ipc.new_stream(str(tmp_path / name), arrow_table().schema) as writer:
            writer.write_table(arrow_table())
        assert_galaxies(read_catalog(str(tmp_path / name)))


@pytest.mark.parametrize("name", ["q.cat", "q.txt", "q"])
def test_header_of_sextractor_names_its_columns(tmp_path, name):
    (tmp_path / name).write_text(
        "#   1 objid           Object id\n#   2 class           Class\n#   4 ra              Position  [deg]\n"
        " 587732578312454276 round 7 1.5\n 17 spiral 8 188.5\n"
    )
    catalog = read_catalog(str(tmp_path / name))
    assert catalog["object_id"].to_pylist() == ["587732578312454276", "17"]
    assert catalog["ra"].to_pylist() == [1.5, 188.5]


def test_older_lzma_is_unpacked(tmp_path):
    content = "objid,class\n1,a\n2,b\n"
    (tmp_path / "q.csv.lzma").write_bytes(lzma.compress(content.encode(), format=lzma.FORMAT_ALONE))
    assert read_catalog(str(tmp_path / "q.csv.lzma"))["label"].to_pylist() == ["a", "b"]


def test_table_in_a_folder_of_a_zip_is_named_without_the_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("data/train.csv", "objid,class\n1,a\n")
        archive.writestr("data/test.csv", "objid,class\n2,b\n")
    for name in ("test.csv", "data/test.csv"):
        assert read_catalog(str(tmp_path / "two.zip"), hdu=name)["object_id"].to_pylist() == ["2"]


@pytest.mark.parametrize(("scale", "zero"), [(0.5, 1.0), (1.0, 0.0), (0.01, -3.0)])
def test_missing_numbers_of_fits_are_found_before_their_scale(tmp_path, scale, zero):
    columns = [fits.Column("objid", "J", array=[1, 2, 3]), fits.Column("class", "3A", array=["a", "b", "c"])]
    hdu = fits.BinTableHDU.from_columns([*columns, fits.Column("ra", "I", null=-99, array=[10, -99, 20])])
    hdu.header.update(TSCAL3=scale, TZERO3=zero)
    hdu.writeto(tmp_path / "q.fits")
    expected = [10 * scale + zero, None, 20 * scale + zero]
    assert read_catalog(str(tmp_path / "q.fits"))["ra"].to_pylist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('[{"objid": 1}]', "this is a JSON file; save the table as CSV or Parquet"),
        ('{"objid": 1}\n{"objid": 2}\n', "this is a JSON file"),
        ("\\begin{table}\n\\end{table}\n", "this is a LaTeX table"),
        ("<table><tr><td>objid</td></tr></table>", "this is a web page"),
    ],
)
def test_texts_that_are_no_tables_are_named(tmp_path, content, sentence):
    (tmp_path / "q.csv").write_text(content)
    with pytest.raises(CatalogError, match=sentence):
        read_catalog(str(tmp_path / "q.csv"))


def test_names_in_files_of_a_folder_may_differ_in_case(tmp_path):
    (tmp_path / "a.csv").write_text("objid,class,ra\n1,a,1.5\n")
    (tmp_path / "b.csv").write_text("RA,OBJID,Class\n2.5,2,b\n")
    catalog = read_catalog(str(tmp_path))
    assert catalog["object_id"].to_pylist() == ["1", "2"]
    assert catalog["label"].to_pylist() == ["a", "b"]
    assert catalog["ra"].to_pylist() == [1.5, 2.5]


@pytest.mark.parametrize("name", ["q.txt", "q.dat", "q", "q.csv"])
def test_ipac_is_recognised_by_its_types(tmp_path, name):
    astropy_table().write(tmp_path / name, format="ascii.ipac")
    assert_galaxies(read_catalog(str(tmp_path / name)))


VOTABLE = """<?xml version="1.0" encoding="ENCODING"?>DOCTYPE<VOTABLE version="1.3"><RESOURCE><TABLE>
<FIELD name="objid" datatype="int"/><FIELD name="class" datatype="char" arraysize="*"/><DATA>DATA</DATA></TABLE></RESOURCE></VOTABLE>"""
ROWS = "<TABLEDATA><TR><TD>1</TD><TD>a</TD></TR></TABLEDATA>"
BOMB = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(10))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    ("doctype", "rows", "sentence"),
    [
        ("", '<BINARY><STREAM href="file:///etc/passwd"/></BINARY>', "its rows are in another file, 'file:///etc/passwd'"),
        ("", '<FITS><STREAM href="http://127.0.0.1:9/x"/></FITS>', "its rows are in another file, 'http://127.0.0.1:9/x'"),
        ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', ROWS.replace("a", "&e;"), "it declares the entity 'e'"),
        (f'<!DOCTYPE x [<!ENTITY e0 "aaaa">{BOMB}]>', ROWS.replace("a", "&e9;"), "it declares the entity 'e0'"),
        ('<!DOCTYPE VOTABLE SYSTEM "http://us-vo.org/xml/VOTable.dtd">', ROWS, None),
    ],
)  # fmt: skip
def test_votable_opens_no_other_file(tmp_path, doctype, rows, sentence, encoding):
    text = VOTABLE.replace("DOCTYPE", doctype).replace("DATA</DATA>", f"{rows}</DATA>").replace("ENCODING", encoding)
    (tmp_path / "q.xml").write_bytes(text.encode(encoding))
    if sentence is None:
        assert read_catalog(str(tmp_path / "q.xml"))["label"].to_pylist() == ["a"]
        return
    with pytest.raises(CatalogError, match=sentence):
        read_catalog(str(tmp_path / "q.xml"))


def test_ecsv_makes_no_foreign_objects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    head = "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: objid, datatype: int64}\n# - {name: class, datatype: string}\n"
    for meta in (
        "# meta: !!python/object/apply:os.system ['touch witness']\n",
        "# meta: !!omap\n# - __serialized_columns__:\n#     x: {__class__: subprocess.Popen, args: [touch, witness]}\n",
    ):
        (tmp_path / "q.ecsv").write_text(f"{head}{meta}# schema: astropy-2.0\nobjid class\n1 a\n")
        with pytest.raises(CatalogError, match="cannot be read as a ecsv table"):
            read_catalog(str(tmp_path / "q.ecsv"))
    assert [path.name for path in tmp_path.iterdir()] == ["q.ecsv"]
