"""Tests of numbers and ids in tables as people write them."""

from __future__ import annotations

import warnings
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import Angle
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.errors import CatalogError
from raydistill.galaxies.catalog import read_catalog
from raydistill.galaxies.numbers import NotANumber, to_numbers

NAN = float("nan")


@pytest.mark.parametrize(
    ("words", "kind", "expected"),
    [
        (["0.10", " 0.2", "3"], "number", [0.1, 0.2, 3]),
        (["--", "0.1", None, "n/a", "NaN", "…"], "number", [NAN, 0.1, NAN, NAN, NAN, NAN]),
        (["0,10", "12,5", "7"], "number", [0.1, 12.5, 7]),
        (["0,873", "0,912"], "number", [0.873, 0.912]),
        (["1.234,5", "2,5"], "number", [1234.5, 2.5]),
        (["1,234.5", "17"], "number", [1234.5, 17]),
        (["1.5D+02", "−3"], "number", [150, -3]),
        (["87%", "5 %", "--"], "fraction", [0.87, 0.05, NAN]),
        (["12:34:56.7"], "right ascension", [188.73625]),
        (["12 34 56.7"], "right ascension", [188.73625]),
        (["12h34m56.7s"], "right ascension", [188.73625]),
        (["188d44m10.5s", "--"], "right ascension", [188.73625, NAN]),
        (["188:44:10.5", "01:00:00"], "right ascension", [188.73625, 1]),
        (["+01:02:03", "-00:30:00"], "declination", [1.0341666666666667, -0.5]),
        (["-10d22m25.7s", "-10°22'25.7\""], "declination", [-10.373805555555555] * 2),
        (["12:34"], "right ascension", [188.5]),
    ],
)
def test_numbers_are_read_as_people_write_them(words, kind, expected):
    np.testing.assert_allclose(to_numbers(pa.array(words, pa.string()), kind), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["0.1", "high"], "number"),
        (["1", "1,234"], "number"),  # 1.234 or 1234
        (["0.5", "0,5"], "number"),
        (["1.234", "0,5"], "number"),
        (["1", "87%"], "number"),
        (["87%", "0.5"], "fraction"),
        (["1", "0.1±0.2"], "number"),
        (["1", "<0.1"], "number"),
        (["1", "1_0"], "number"),
        (["01:00:00", "12:61:00"], "right ascension"),
        (["01:00:00", "91:00:00"], "declination"),
        (["01:00:00", "12h00m00s"], "declination"),
        (["1", "12:34:56"], "number"),
    ],
)
def test_doubtful_numbers_are_rejected_with_their_row(words, kind):
    with pytest.raises(NotANumber) as caught:
        to_numbers(pa.array(words), kind)
    assert (caught.value.value, caught.value.row) in {(word, i + 1) for i, word in enumerate(words)}


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from("+-"),
    st.integers(0, 89),
    st.integers(0, 59),
    st.integers(0, 59999),
    st.sampled_from([":", " ", "dm"]),
)
def test_sexagesimal_angles_agree_with_astropy(sign, whole, minutes, milliseconds, marks):
    seconds = f"{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"
    first, second = (marks[0], marks[-1]) if marks != "dm" else ("d", "m")
    text = f"{sign}{whole:02d}{first}{minutes:02d}{second}{seconds}" + ("s" if marks == "dm" else "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = Angle(text, unit="deg").deg
    assert to_numbers(pa.array([text]), "declination")[0] == pytest.approx(expected, rel=1e-14, abs=1e-14)
    if whole < 24 and marks != "dm":
        hours = text.removeprefix("-")
        expected = Angle(hours, unit="hourangle").deg
        assert to_numbers(pa.array([hours]), "right ascension")[0] == pytest.approx(expected, rel=1e-14, abs=1e-14)


# ---- in a catalogue ----


def catalog_of(tmp_path, text, **options):
    (tmp_path / "q.csv").write_text(text)
    return read_catalog(str(tmp_path / "q.csv"), **options)


def test_table_2_of_galaxy_zoo_1_is_read(tmp_path):
    text = "OBJID,RA,DEC,NVOTE,class\n587727178986356823,00:00:00.41,-10:22:25.7,59,round\n587727227300741210,00:00:00,+00:00:01,9,x\n"
    catalog = catalog_of(tmp_path, text, columns={"total_votes": "nvote"})
    np.testing.assert_allclose(catalog["ra"].to_pylist(), [0.41 / 240, 0], rtol=1e-12)
    np.testing.assert_allclose(catalog["dec"].to_pylist(), [-(10 + 22 / 60 + 25.7 / 3600), 1 / 3600], rtol=1e-12)
    assert catalog["total_votes"].to_pylist() == [59, 9]


def test_times_of_day_are_angles(tmp_path):
    catalog = catalog_of(tmp_path, "id,class,ra,dec\n1,a,12:34:56,01:02:03\n")
    assert catalog["ra"].to_pylist() == [pytest.approx(188.73333333333332)]
    assert catalog["dec"].to_pylist() == [pytest.approx(1.0341666666666667)]


@pytest.mark.parametrize("role", ["ra", "dec", "petro_r90", "redshift", "total_votes"])
def test_optional_column_of_other_text_is_left_empty_with_one_warning(tmp_path, caplog, role):
    catalog = catalog_of(tmp_path, f"id,class,{role}\n1,a,1\n2,b,x\n3,c,y\n")
    assert catalog[role].null_count == 3
    assert catalog["label"].to_pylist() == ["a", "b", "c"]
    warned = [record.getMessage() for record in caplog.records]
    assert warned == [
        f"curate: column '{role}' holds 'x' in row 2, which is not a number; no galaxy has a {role}. "
        f"survey.columns.{role}=null leaves it out"
    ]


@pytest.mark.parametrize("role", ["ra", "redshift", "confidence"])
def test_role_may_be_switched_off(tmp_path, caplog, role):
    catalog = catalog_of(tmp_path, f"id,class,{role}\n1,a,x\n", columns={role: None})
    assert catalog[role].to_pylist() == ([1.0] if role == "confidence" else [None])
    assert not caplog.records


def test_ids_cannot_be_switched_off(tmp_path):
    with pytest.raises(CatalogError, match="has no id column"):
        catalog_of(tmp_path, "id,class\n1,a\n", schema="plain", columns={"id": None})


def test_confidence_may_be_a_percentage_or_have_a_decimal_comma(tmp_path):
    assert catalog_of(tmp_path, "id,class,confidence\n1,a,87%\n2,b,9 %\n")["confidence"].to_pylist() == [0.87, 0.09]
    assert catalog_of(tmp_path, "id;class;confidence\n1;a;0,87\n2;b;1\n")["confidence"].to_pylist() == [0.87, 1]


# ---- ids ----


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["a1", "b2"]).dictionary_encode(),
        pa.array([b"a1", b"b2"]),
        pa.array([b"a1", b"b2"], pa.binary(2)),
        pa.array(["a1", "b2"], pa.large_string()),
        pa.array(["a1", "b2"], pa.string_view()),
    ],
    ids=lambda ids: str(ids.type),
)
def test_ids_of_any_text_are_read(tmp_path, ids):
    pq.write_table(pa.table({"id": ids, "class": ["E", "S"]}), tmp_path / "q.parquet")
    assert read_catalog(str(tmp_path / "q.parquet"))["object_id"].to_pylist() == ["a1", "b2"]


def test_ids_of_whole_numbers_keep_every_digit(tmp_path):
    for ids in (pa.array([2**64 - 1], pa.uint64()), pa.array([Decimal(2**64 - 1)], pa.decimal128(38, 0))):
        pq.write_table(pa.table({"id": ids, "class": ["E"]}), tmp_path / "q.parquet")
        assert read_catalog(str(tmp_path / "q.parquet"))["object_id"].to_pylist() == [str(2**64 - 1)]


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (pa.array([["a"], ["b"]]), r"column 'id' has the type list<\w+: string>, which is not an id"),
        (pa.array([{"a": 1}, {"a": 2}]), r"column 'id' has the type struct<a: int64>, which is not an id"),
        (pa.array([True, False]), "column 'id' has the type bool, which is not an id"),
        (pa.array([b"\xff\xfe", b"ok"]), "the ids in 'id' are bytes that are not UTF-8"),
        (pa.array([None, None], pa.null()), "column 'id' has no id in 2 rows"),
    ],
    ids=str,
)
def test_columns_that_are_no_ids_give_one_sentence(tmp_path, ids, sentence):
    pq.write_table(pa.table({"id": ids, "class": ["E", "S"]}), tmp_path / "q.parquet")
    with pytest.raises(CatalogError, match=sentence):
        read_catalog(str(tmp_path / "q.parquet"))
