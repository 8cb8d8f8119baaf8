"""Test positions and sizes in any unit and spelling."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import Latitude, Longitude, SkyCoord
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import Table
from pyarrow import feather

from raydistill.galaxies.catalog import read_catalog
from raydistill.galaxies.positions import read_measurement

RA = [188.73625, 0.25, 359.5]
DEC = [-10.373805555555555, -0.25, 89.5]


@pytest.fixture(autouse=True)
def _all_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raydistill")


def table(**columns: Any) -> Table:
    return Table({"objid": ["1", "2", "3"], "class": ["a", "b", "a"], **columns})


def write(astropy_table: Table, path: Path) -> str:
    """Write a table in the format of the suffix."""
    if path.suffix == ".xml":
        from_table(astropy_table).to_xml(str(path))
    elif path.suffix == ".mrt":
        astropy_table.write(path, format="ascii.mrt")
    elif path.suffix == ".tbl":
        astropy_table.write(path, format="ascii.ipac")
    else:
        astropy_table.write(path)
    return str(path)


# ---- units ----

SUFFIXES = [".fits", ".xml", ".ecsv", ".mrt", ".tbl", ".parquet"]


@pytest.mark.parametrize(
    ("suffix", "unit"),
    [
        (suffix, unit)
        for suffix in SUFFIXES
        for unit in ("deg", "rad", "arcsec", "arcmin", "hourangle", "mas")
        if (suffix, unit) not in ((".mrt", "hourangle"), (".fits", "hourangle"))  # astropy does not write these
    ],
)
def test_unit_of_a_column_is_converted(tmp_path, caplog, suffix, unit):
    columns = {name: u.Quantity(values, u.deg).to(unit) for name, values in (("ra", RA), ("dec", DEC))}
    catalog = read_catalog(write(table(**columns), tmp_path / f"t{suffix}"))
    np.testing.assert_allclose(catalog["ra"].to_numpy(), RA, rtol=1e-13)
    np.testing.assert_allclose(catalog["dec"].to_numpy(), DEC, rtol=1e-13)
    converted = [line for line in caplog.messages if "has the unit" in line]
    assert len(converted) == (0 if unit == "deg" else 2)


@pytest.mark.parametrize("unit", ["h", "hr", "hours", "HOURS", "hour", "hourangle", "[h]"])
def test_hours_have_many_names(tmp_path, caplog, unit):
    column = fits.Column("ra", "D", unit=unit, array=np.array(RA) / 15)
    ids = fits.Column("objid", "3A", array=["1", "2", "3"])
    labels = fits.Column("class", "1A", array=["a", "b", "a"])
    fits.BinTableHDU.from_columns([ids, labels, column]).writeto(tmp_path / "t.fits")
    np.testing.assert_allclose(read_catalog(str(tmp_path / "t.fits"))["ra"].to_numpy(), RA, rtol=1e-14)
    assert f"curate: column 'ra' has the unit {unit}, and is converted to deg" in caplog.messages


@pytest.mark.parametrize(
    "unit", ["deg", "DEG", "degrees", "Degree", "d", "°", "decimal degrees", "[deg]", "degree (J2000)"]
)
def test_degrees_have_many_names(tmp_path, caplog, unit):
    schema = pa.schema(
        [("id", pa.string()), ("class", pa.string()), pa.field("ra", pa.float64(), metadata={"unit": unit})]
    )
    pq.write_table(pa.table([["1", "2", "3"], ["a", "b", "a"], RA], schema), tmp_path / "t.parquet")
    assert read_catalog(str(tmp_path / "t.parquet"))["ra"].to_pylist() == RA
    assert not [line for line in caplog.messages if "converted" in line]


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("none", 1), ("unitless", 1), ("1", 1), ("---", 1), ("deg (J2000)", 1), ("deg J2000.0", 1), ("degree_east", 1),
        ("radians", 180 / np.pi), ("arc sec", 1 / 3600), ("10**-3 deg", 1e-3), ("Hour Angle", 15), ("h m s", 1),
        ("HH:MM:SS", 1), ("d m s", 1), ("hours (ICRS)", 15),
    ],
)  # fmt: skip
def test_units_of_numbers_as_people_write_them(unit, factor):
    values = read_measurement(pa.array([1.5, None]), "ra", "ra", unit)
    np.testing.assert_allclose(values, [1.5 * factor, np.nan], rtol=1e-14)


def test_feather_and_folders_have_units(tmp_path, caplog):
    for number, unit in enumerate(["rad", "rad", "deg"]):
        schema = pa.schema(
            [("id", pa.int64()), ("class", pa.string()), pa.field("ra", pa.float64(), metadata={"unit": unit})]
        )
        part = pa.table([[number], ["a"], [1.0]], schema)
        feather.write_feather(part, tmp_path / f"{number}.feather")
    assert read_catalog(str(tmp_path / "0.feather"))["ra"].to_pylist() == [pytest.approx(57.29577951308232)]
    assert read_catalog(str(tmp_path))["ra"].null_count == 3
    assert "curate: column 'ra' has the unit 'deg / rad', which is not an angle; no galaxy has a ra" in caplog.messages
    (tmp_path / "2.feather").unlink()
    assert read_catalog(str(tmp_path))["ra"].to_pylist() == [pytest.approx(57.29577951308232)] * 2


@pytest.mark.parametrize(("unit", "values"), [("pix", [None] * 3), ("km / s", [None] * 3), ("furlongs", RA)])
def test_unit_that_is_no_angle_gives_a_warning(tmp_path, caplog, unit, values):
    columns = {"ra": u.Quantity(RA, unit) if unit != "furlongs" else RA}
    astropy_table = table(**columns)
    if unit == "furlongs":
        astropy_table["ra"].unit = u.Unit(unit, parse_strict="silent")
    catalog = read_catalog(write(astropy_table, tmp_path / "t.ecsv"))
    assert catalog["ra"].to_pylist() == values
    unknown = f"curate: column 'ra' has the unknown unit '{unit}'; it is read in deg"
    no_angle = f"curate: column 'ra' has the unit '{unit}', which is not an angle; no galaxy has a ra"
    assert [line for line in caplog.messages if "unit" in line] == [no_angle if values[0] is None else unknown]


def test_sizes_are_converted_to_arcseconds(tmp_path):
    for unit, factor in (("arcmin", 60.0), ("arcsec", 1.0), ("deg", 3600.0)):
        path = write(table(petroR90_r=[0.5, 0.25, -9999] * u.Unit(unit)), tmp_path / f"{unit}.fits")
        assert read_catalog(path)["petro_r90"].to_pylist() == [0.5 * factor, 0.25 * factor, None]


def test_mixed_in_columns_of_astropy_have_units(tmp_path):
    columns = {"ra": Longitude(np.array(RA) / 15, u.hourangle), "dec": Latitude(DEC, u.deg)}
    catalog = read_catalog(write(table(**columns), tmp_path / "t.ecsv"))
    np.testing.assert_allclose(catalog["ra"].to_numpy(), RA, rtol=1e-14)
    np.testing.assert_allclose(catalog["dec"].to_numpy(), DEC, rtol=1e-14)


# ---- text tables ----


def catalog_of(tmp_path: Path, header: str, rows: list[str], name: str = "t.csv", **options: Any) -> pa.Table:
    (tmp_path / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return read_catalog(str(tmp_path / name), **options)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("ra [h]", 15),
        ("RA(hours)", 15),
        ("ra_j2000 [rad]", 180 / np.pi),
        ("ra (deg)", 1),
        ("ra (J2000)", 1),
        ("ra [d]", 1),
    ],
)
def test_unit_in_the_name_of_a_column_is_read(tmp_path, name, factor):
    catalog = catalog_of(tmp_path, f"id,class,{name}", ["1,a,1.5", "2,b,3"], columns={"ra": name})
    np.testing.assert_allclose(catalog["ra"].to_numpy(), [1.5 * factor, 3 * factor], rtol=1e-14)


@pytest.mark.parametrize("name", ["ra_hours", "RAh", "raHours", "ra_hr", "ra h"])
def test_name_of_hours_without_a_unit_is_reported(tmp_path, caplog, name):
    catalog = catalog_of(tmp_path, f"id,class,{name}", ["1,a,1.5", "2,b,23.5"], columns={"ra": name})
    assert catalog["ra"].to_pylist() == [1.5, 23.5]
    assert (
        f"curate: column '{name}' has no unit and is read in degrees; call it '{name} [h]' if it is in hours"
        in caplog.messages
    )
    caplog.clear()
    catalog_of(tmp_path, f"id,class,{name}", ["1,a,1.5", "2,b,24.5"], columns={"ra": name})
    assert not caplog.messages


@pytest.mark.parametrize("name", ["ra", "ra_deg", "alpha", "search", "RA_J2000"])
def test_small_numbers_in_other_columns_are_degrees_without_a_word(tmp_path, caplog, name):
    assert catalog_of(tmp_path, f"id,class,{name}", ["1,a,1.5"], columns={"ra": name})["ra"].to_pylist() == [1.5]
    assert not caplog.messages


def test_units_below_the_header_of_vizier_are_read(tmp_path, caplog):
    rows = [
        '\t\th\trad\t"h:m:s"',
        "---\t-----\t---\t---\t---",
        "1\tE\t1.5\t0.5\t12 34 56.7",
        "2\tS\t2.5\t-0.5\t01 00 00",
    ]
    header = "GalaxyID\tclass\tRA\tDE\tRAJ2000"
    catalog = catalog_of(tmp_path, header, rows, "v.tsv", columns={"dec": "DE"})
    assert catalog["ra"].to_pylist() == [22.5, 37.5]
    np.testing.assert_allclose(catalog["dec"].to_numpy(), np.rad2deg([0.5, -0.5]), rtol=1e-14)
    catalog = catalog_of(tmp_path, header, rows, "v.tsv", columns={"ra": "RAJ2000"})
    np.testing.assert_allclose(catalog["ra"].to_numpy(), [188.73625, 15], rtol=1e-14)


@pytest.mark.parametrize(
    ("units", "ra"), [(",,h,deg", [22.5, 37.5]), (",,[hour],", [22.5, 37.5]), ("int,str,double,float", [1.5, 2.5])]
)
def test_row_of_units_below_the_header_is_read(tmp_path, caplog, units, ra):
    assert catalog_of(tmp_path, "id,class,ra,dec", [units, "1,a,1.5,0.5", "2,b,2.5,5"])["ra"].to_pylist() == ra
    assert not [line for line in caplog.messages if "unknown unit" in line]


def test_unit_says_whether_sexagesimal_text_is_in_hours(tmp_path):
    words = ["01:02:03", "12:00:00", "23:30:00"]
    for unit, factor in (("hms", 15), ("dms", 1), ("hourangle", 15), ("deg", 1), (None, 15)):
        astropy_table = table(ra=words)
        if unit:
            astropy_table["ra"].unit = u.Unit(unit, parse_strict="silent")
        ra = read_catalog(write(astropy_table, tmp_path / f"{unit}.ecsv"))["ra"].to_numpy()
        np.testing.assert_allclose(ra, np.array([1 + 2 / 60 + 3 / 3600, 12, 23.5]) * factor, rtol=1e-14)


@pytest.mark.parametrize(
    ("words", "name"), [(["01:00:00", "23:00:00"], "hours"), (["01:00:00", "123:00:00"], "degrees")]
)
def test_guess_of_hours_is_logged_once(tmp_path, caplog, words, name):
    catalog_of(tmp_path, "id,class,ra", [f"{n},a,{word}" for n, word in enumerate(words)])
    assert caplog.messages == [f"curate: right ascensions such as '01:00:00' are read in {name}"]


def test_times_of_day_in_parquet_are_angles(tmp_path):
    times = pa.array([datetime.time(12, 34, 56, 700000), None], pa.time64("us"))
    pq.write_table(pa.table({"id": ["1", "2"], "class": ["a", "b"], "ra": times}), tmp_path / "t.parquet")
    assert read_catalog(str(tmp_path / "t.parquet"))["ra"].to_pylist() == [pytest.approx(188.73625), None]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["12:34:56.7", "01:00:00"]).dictionary_encode(),
        pa.array(["12:34:56.7", "01:00:00"], pa.string_view()),
        pa.array([b"12:34:56.7", b"01:00:00"]),
        pa.array(["188.73625", "15"], pa.large_string()),
        pa.array([188.73625, 15]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_text_of_any_type_is_read(tmp_path, column):
    pq.write_table(pa.table({"id": ["1", "2"], "class": ["a", "b"], "ra": column}), tmp_path / "t.parquet")
    np.testing.assert_allclose(read_catalog(str(tmp_path / "t.parquet"))["ra"].to_numpy(), [188.73625, 15], rtol=1e-14)


def test_columns_of_vectors_and_other_things_are_left_empty(tmp_path, caplog):
    columns = [pa.array([[1.0, 2.0], [3.0, 4.0]]), pa.array([b"\xff\xfe", b"1"]), pa.array([3600, 7], pa.duration("s"))]
    for column in columns:
        pq.write_table(pa.table({"id": ["1", "2"], "class": ["a", "b"], "ra": column}), tmp_path / "t.parquet")
        assert read_catalog(str(tmp_path / "t.parquet"))["ra"].null_count == 2
    for name in ("t.fits", "t.ecsv"):
        vectors = Table({"objid": ["1", "2"], "class": ["a", "b"], "ra": [[1.0, 2.0], [3.0, 4.0]], "dec": [1.0, 2.0]})
        catalog = read_catalog(write(vectors, tmp_path / name))
        assert (catalog["ra"].null_count, catalog["dec"].to_pylist()) == (2, [1.0, 2.0])
    assert len([line for line in caplog.messages if "no galaxy has a ra" in line]) == 5


def test_coordinates_of_astropy_are_two_columns(tmp_path):
    position = SkyCoord(RA, DEC, unit="deg").galactic
    path = write(table(coord=position), tmp_path / "t.ecsv")
    catalog = read_catalog(path, columns={"ra": "coord.ra", "dec": "coord.dec"})
    np.testing.assert_allclose(catalog["ra"].to_numpy(), RA, rtol=1e-10)
    np.testing.assert_allclose(catalog["dec"].to_numpy(), DEC, rtol=1e-10)
    assert read_catalog(path)["ra"].null_count == 3


def test_missing_positions_of_sdss_are_missing_in_any_unit(tmp_path, caplog):
    path = write(table(ra=[-9999, 1, 2] * u.hourangle, dec=[-9999, 1, 1.5] * u.rad), tmp_path / "t.ecsv")
    catalog = read_catalog(path)
    assert catalog["ra"].to_pylist() == [None, 15, 30]
    assert catalog["dec"].to_pylist() == [None, pytest.approx(57.29577951308232), pytest.approx(85.94366926962348)]
    assert not [line for line in caplog.messages if "outside" in line]


# ---- angles in parts ----

CDS = """\
Title: Positions
================================================================================
Byte-by-byte Description of file: t.dat
--------------------------------------------------------------------------------
   Bytes Format Units  Label     Explanations
--------------------------------------------------------------------------------
   1-  3 A3     ---    objid     Id
   5-  5 A1     ---    class     Class
   7-  8 I2     h      RAh       Hour of right ascension
  10- 11 I2     min    RAm       Minute of right ascension
  13- 16 F4.1   s      RAs       ? Second of right ascension
  18- 18 A1     ---    DE-       Sign
  19- 20 I2     deg    DEd       Degree of declination
  22- 23 I2     arcmin DEm       Minute of declination
  25- 28 F4.1   arcsec DEs       ? Second of declination
--------------------------------------------------------------------------------
  1 a 12 34 56.7 -10 22 25.7
  2 b 00 00 06.0 -00 30 00.0
  3 a 23 30      +01 15
"""


def test_columns_of_hours_minutes_and_seconds_are_one_angle(tmp_path, caplog):
    (tmp_path / "t.dat").write_text(CDS)
    catalog = read_catalog(str(tmp_path / "t.dat"), columns={"ra": "RAh", "dec": "DEd"})
    np.testing.assert_allclose(catalog["ra"].to_numpy(), [188.73625, 0.025, 352.5], rtol=1e-14)
    np.testing.assert_allclose(catalog["dec"].to_numpy(), [-10.373805555555555, -0.5, 1.25], rtol=1e-14)
    assert "curate: ra is in the columns RAh, RAm, RAs" in caplog.messages
    assert "curate: dec is in the columns DE-, DEd, DEm, DEs" in caplog.messages


@pytest.mark.parametrize(
    ("header", "rows", "dec"),
    [
        ("DEd,DEm,DEs", ["-00,30,00", "+10,15,0", "-1,30,36"], [-0.5, 10.25, -1.51]),
        ("ded,dem", ["-0,30", "10,15", ",5"], [-0.5, 10.25, None]),
        ("DE-,DEd,DEm", ["-,0,30", "+,10,15", ",1,30"], [-0.5, 10.25, 1.5]),
    ],
)
def test_parts_of_declinations_keep_the_sign_of_zero(tmp_path, header, rows, dec):
    catalog = catalog_of(
        tmp_path, f"id,class,{header}", [f"{n},a,{row}" for n, row in enumerate(rows)],
        columns={"dec": next(name for name in header.split(",") if name.lower() == "ded")},
    )  # fmt: skip
    assert catalog["dec"].to_pylist() == [None if angle is None else pytest.approx(angle) for angle in dec]


@pytest.mark.parametrize(
    ("header", "ra"),
    [
        ("ra_h,ra_m,ra_s", [188.73625, 15.25]),
        ("RA_hour,RA_min,RA_sec", [188.73625, 15.25]),
        ("RAJ2000h,RAJ2000m,RAJ2000s", [188.73625, 15.25]),
        ("rah,x,y", [12, 1]),
        ("RAhours,DEm,DEs", [12, 1]),
    ],
)
def test_parts_of_right_ascensions_have_many_names(tmp_path, header, ra):
    rows = ["1,a,12,34,56.7", "2,b,1,1,0"]
    catalog = catalog_of(tmp_path, f"id,class,{header}", rows, columns={"ra": header.split(",")[0]})
    np.testing.assert_allclose(catalog["ra"].to_numpy(), ra, rtol=1e-14)


def test_decimal_degrees_beside_columns_of_parts_are_the_position(tmp_path):
    header = "id,class,RAdeg,DEdeg,RAh,RAm,RAs,DE-,DEd,DEm,DEs"
    rows = ["1,a,188.73625,-10.5,12,34,56.7,-,10,30,0", "2,b,15,2,1,0,0,+,2,0,0"]
    for ra, dec in (("RAdeg", "DEdeg"), ("RAh", "DEd")):
        catalog = catalog_of(tmp_path, header, rows, columns={"ra": ra, "dec": dec})
        np.testing.assert_allclose(catalog["ra"].to_numpy(), [188.73625, 15], rtol=1e-14)
        assert catalog["dec"].to_pylist() == [-10.5, 2]


def test_parts_that_are_no_numbers_or_too_large_are_left_empty(tmp_path, caplog):
    columns = {"ra": "RAh", "dec": "DEd"}
    catalog = catalog_of(tmp_path, "id,class,RAh,RAm,DEd,DEm", ["1,a,12,x,10,61", "2,b,1,2,10,30"], columns=columns)
    assert (catalog["ra"].null_count, catalog["dec"].to_pylist()) == (2, [None, 10.5])
    assert "curate: column 'RAm' holds 'x' in row 1, which is not a number; no galaxy has a ra" in caplog.text
    assert "dec is outside [-90, 90] in 1 rows of column 'DEd, DEm' (row 1: inf)" in caplog.text


# ---- range ----


def test_positions_out_of_range_are_left_empty_with_one_warning(tmp_path, caplog):
    rows = ["1,a,10,91.2", "2,b,361,-90", "3,a,-10,-99", "4,b,360,90", "5,a,-9999,-9999", "6,b,inf,0"]
    catalog = catalog_of(tmp_path, "id,class,ra,dec", rows)
    assert catalog["ra"].to_pylist() == [10, None, -10, 360, None, None]
    assert catalog["dec"].to_pylist() == [None, -90, None, 90, None, 0]
    assert caplog.messages == [
        "curate: ra is outside [-180, 360] in 1 rows of column 'ra' (row 2: 361); these galaxies have none",
        "curate: dec is outside [-90, 90] in 2 rows of column 'dec' (row 1: 91.2); these galaxies have none",
    ]
