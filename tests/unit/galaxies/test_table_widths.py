"""A table of too many columns is rejected before a reader makes objects of them."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from pyarrow import feather

from raydistill.datasets.table import ImageTable
from raydistill.errors import CatalogError
from raydistill.galaxies.catalog import read_catalog
from raydistill.galaxies.tables import columnar, columns, open_table

REJECTED = "the table has .* columns or more, and at most .* are read; write those that are needed"


def names(count: int) -> list[str]:
    return ["objid", "label", *(f"c{number}" for number in range(count - 2))]


def text(delimiter: str) -> Callable[[int], bytes]:
    return lambda count: f"{delimiter.join(names(count))}\n{delimiter.join('1' * count)}\n".encode()


def astropy_text(form: str) -> Callable[[int], bytes]:
    def write(count: int) -> bytes:
        content = io.StringIO()
        Table({name: [1] for name in names(count)}).write(content, format=form)
        return content.getvalue().encode()

    return write


def votable(count: int) -> bytes:
    fields = "".join(f'<FIELD name="{name}" datatype="int"/>' for name in names(count))
    row = "<TD>1</TD>" * count
    data = f"<DATA><TABLEDATA><TR>{row}</TR></TABLEDATA></DATA>"
    start = '<?xml version="1.0"?><VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
    return f"{start}<RESOURCE><TABLE>{fields}{data}</TABLE></RESOURCE></VOTABLE>".encode()


def sextractor(count: int) -> bytes:
    header = "".join(f"# {number:3d} {name.upper()}\n" for number, name in enumerate(names(count), 1))
    return f"{header}{' '.join('1' * count)}\n".encode()


def parquet(count: int) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table({name: [1] for name in names(count)}), content)
    return content.getvalue()


def arrow(count: int) -> bytes:
    content = io.BytesIO()
    feather.write_feather(pa.table({name: [1] for name in names(count)}), content)
    return content.getvalue()


FORMATS: dict[str, Callable[[int], bytes]] = {
    ".csv": text(","),
    ".tsv": text("\t"),
    ".xml": votable,
    ".ecsv": astropy_text("ascii.ecsv"),
    ".mrt": astropy_text("ascii.mrt"),
    ".tbl": astropy_text("ascii.ipac"),
    ".cat": sextractor,
    ".parquet": parquet,
    ".feather": arrow,
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_number_of_columns_is_limited_in_each_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(columns, "MAX_COLUMNS", 20)
    path = tmp_path / f"table{suffix}"
    path.write_bytes(FORMATS[suffix](20))
    assert len(open_table(str(path)).names) == 20
    path.write_bytes(FORMATS[suffix](100))
    with pytest.raises(CatalogError, match=REJECTED):
        open_table(str(path))


def test_million_columns_take_no_time(tmp_path: Path) -> None:
    for suffix in (".csv", ".xml"):
        path = tmp_path / f"table{suffix}"
        path.write_bytes(FORMATS[suffix](1_000_000 if suffix == ".csv" else 100_000))
        started = time.process_time()
        with pytest.raises(CatalogError, match=REJECTED):
            read_catalog(str(path))
        assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"TFIELDS": 1000}, "1000 columns or more, and at most 999 are read"),
        ({f"C{number}": number for number in range(200)}, "a header of more than 8640 bytes"),
    ],
)
def test_fits_headers_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cards: dict[str, int], reason: str
) -> None:
    monkeypatch.setattr(columns, "MAX_HEADER", 8640)
    path = tmp_path / "table.fits"
    table = fits.BinTableHDU(Table({"objid": [1, 2], "label": [0, 1]}))
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    assert open_table(str(path)).names == ["objid", "label"]
    with fits.open(path, mode="update") as hdus:
        hdus[1].header.update(cards if "TFIELDS" not in cards else {})
    if "TFIELDS" in cards:
        content = path.read_bytes()
        path.write_bytes(content.replace(b"TFIELDS =                    2", b"TFIELDS =                 1000"))
    with pytest.raises(CatalogError, match=reason):
        open_table(str(path))


def test_images_before_a_table_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "table.fits"
    table = fits.BinTableHDU(Table({"objid": [1, 2], "name": ["a" * 3000, "b"]}))
    images = [fits.PrimaryHDU(), fits.ImageHDU(np.ones((3, 700))), fits.CompImageHDU(np.ones((70, 70), np.int16))]
    fits.HDUList([*images, table]).writeto(path)
    assert open_table(str(path)).read(["objid"])["objid"].to_pylist() == [1, 2]


@pytest.mark.parametrize("count", [2, 14, 15, 16, 127, 128, 300])
def test_parquet_footer_tells_the_number_of_columns(count: int) -> None:
    content = parquet(count)
    (length,) = struct.unpack("<I", content[-8:-4])
    assert columns._num_elements(content[-8 - length :]) == count + 1


def test_parquet_image_table_of_many_columns_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAX_COLUMNS", 20)
    (tmp_path / "table.parquet").write_bytes(parquet(100))
    with pytest.raises(CatalogError, match=REJECTED):
        ImageTable(root=str(tmp_path / "table.parquet")).index()


def test_parquet_of_more_rows_than_fit_into_memory_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "MAX_ROWS", 1000)
    path = str(tmp_path / "table.parquet")
    pq.write_table(pa.table({"objid": pa.array(range(1001)), "label": ["a"] * 1001}), path)
    with pytest.raises(CatalogError, match="it has 1001 rows, and at most 1000 are read"):
        read_catalog(path)


@pytest.mark.parametrize("write", [astropy_text("ascii.ecsv"), None], ids=["ecsv", "parquet"])
def test_yaml_in_a_table_has_limits(tmp_path: Path, write: Callable[[int], bytes] | None) -> None:
    deep = "meta: " + "[" * 10_000
    if write is not None:
        path = tmp_path / "table.ecsv"
        path.write_bytes(write(3).replace(b"# schema", f"# {deep}\n# schema".encode()))
    else:
        path = tmp_path / "table.parquet"
        table = pa.table({"objid": [1], "label": ["a"]}).replace_schema_metadata({"table_meta_yaml": deep})
        pq.write_table(table, path)
    with pytest.raises(CatalogError, match="more than 50 levels"):
        open_table(str(path))
