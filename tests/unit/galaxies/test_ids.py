"""Ids of galaxies keep every digit, however a program wrote them, or are rejected."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.errors import CatalogError
from raydistill.galaxies.catalog import read_catalog
from raydistill.galaxies.tables import object_ids


def ids(words: list[str | None]) -> list[str]:
    result: list[str] = object_ids(pa.array(words, pa.string()), "id", "q.csv").to_pylist()
    return result


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["1237648720693755918", "17"], ["1237648720693755918", "17"]),
        (["000123", "7"], ["000123", "7"]),
        (["1.0", "2"], ["1", "2"]),
        (['="1237648720693755918"', '="007"'], ["1237648720693755918", "007"]),
        (["'1237648720693755918", "'17"], ["1237648720693755918", "17"]),
        (["1,237,648,720,693,755,918", "587,722"], ["1237648720693755918", "587722"]),
        (["NGC 1", "1,237"], ["NGC 1", "1,237"]),
        (["'t Hooft", "'17"], ["'t Hooft", "'17"]),
        (["J1234+56", "1e5x"], ["J1234+56", "1e5x"]),
        (["b'J0001'", 'b"J0002"'], ["J0001", "J0002"]),
        (["\ufeffJ1\u200b", "\xa0J2 "], ["J1", "J2"]),
        (["caf\u0065\u0301"], ["caf\xe9"]),
    ],
)
def test_marks_of_spreadsheets_and_editors_are_no_part_of_an_id(written, expected):
    assert ids(written) == expected


@pytest.mark.parametrize(
    "written",
    [
        ["1.10", "1.20", "2.00"],
        ["1E10", "2E5", "17"],
        ["007", "8.0"],
        ["+5", "6.0"],
        ["1.5e+0", "2"],
        ["0x1F", "1e"],
        ["1237648720693755918", "9223372036854775809"],
        ["NaN", "J1"],
        ["None", "J1"],
        ["NA", "null", "J1"],
    ],
)
def test_ids_of_text_stay_as_they_are(written):
    assert ids(written) == written


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["1002.0", "7"], ["1002", "7"]),
        (["1e+05", "99999"], ["100000", "99999"]),
        (["2.0E5"], ["200000"]),
        (["587722981742084097.0", "587722981742084117.0"], ["587722981742084097", "587722981742084117"]),
    ],
)
def test_ids_that_are_written_as_floats_are_whole_numbers_with_a_warning(written, expected, caplog):
    assert ids(written) == expected
    assert f"are written as floats; '{written[0]}' is read as '{expected[0]}'" in caplog.text


def test_floats_of_which_all_digits_fit_a_float_have_lost_some():
    with pytest.raises(CatalogError, match="lost their last digits"):
        ids([f"{float(number):.1f}" for number in (587722981742084097, 587722981742084117)])


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([Decimal("587722981742084097.0000")], pa.decimal128(28, 4)), ["587722981742084097"]),
        (pa.array([Decimal("1.10"), Decimal("1.20")]), ["1.10", "1.20"]),
        (pa.array([b"J1\0\0", b"J234"], pa.binary(4)), ["J1", "J234"]),
        (pa.array([UUID(int=7).bytes], pa.uuid()), ["00000000-0000-0000-0000-000000000007"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([2**60 + 1]).dictionary_encode(), [str(2**60 + 1)]),
        (pa.array([1.0, 2.0]).dictionary_encode(), ["1", "2"]),
    ],
)
def test_every_type_keeps_its_digits(column, expected):
    assert object_ids(column, "id", "q.parquet").to_pylist() == expected


@pytest.mark.parametrize("words", [["NaN", "17"], ["NA", "J1", "NA"]])
def test_words_for_none_among_numbers_or_in_several_rows_are_missing_ids(words):
    with pytest.raises(CatalogError, match=f"has no id in {len(words) // 2 + len(words) % 2} rows"):
        ids(words)


@pytest.mark.parametrize("sign", ["", " ", "nan", "NaN", "NULL", "None", "N/A", "<NA>", "--", "\\N", None])
def test_signs_of_missing_ids_are_rejected(sign):
    with pytest.raises(CatalogError, match=r"column 'id' has no id in 2 rows \(row 2, 4\); remove these rows"):
        ids(["17", sign, "18", sign])


@pytest.mark.parametrize("written", ["5.87722E+17", "5,87722E+17", "5.87722e17", "1.2376487206937559e+18"])
def test_ids_in_scientific_notation_are_rejected(written):
    with pytest.raises(CatalogError, match="were stored as floats and lost their last digits"):
        ids(["17", written])


@given(st.lists(st.integers(0, 10**19), min_size=1, unique=True))
def test_thousands_separators_lose_no_digit(numbers):
    assert ids([f"{number:,}" for number in numbers]) == [str(number) for number in numbers]


@pytest.mark.parametrize("word", ["inf", "-Infinity", "1e999"])
def test_infinite_numbers_are_missing(tmp_path, word):
    (tmp_path / "q.csv").write_text(f"GalaxyID,class,ra,redshift\n1,a,{word},{word}\n2,b,2,0.1\n")
    catalog = read_catalog(str(tmp_path / "q.csv"))
    assert catalog["ra"].to_pylist() == [None, 2.0]
    assert catalog["redshift"].to_pylist() == [None, 0.1]
