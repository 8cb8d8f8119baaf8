"""Ids of galaxies keep every digit, however a program wrote them, or are refused."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.errors import CatalogError
from raydistill.galaxies.catalog import read_catalog
from raydistill.galaxies.tables import object_ids


def ids(words: list[str | None]) -> list[str]:
    found: list[str] = object_ids(pa.array(words, pa.string()), "id", "q.csv").to_pylist()
    return found


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
    ],
)
def test_marks_of_spreadsheets_are_no_part_of_an_id(written, expected):
    assert ids(written) == expected


@pytest.mark.parametrize("sign", ["", " ", "nan", "NaN", "NULL", "None", "N/A", "<NA>", "--", "\\N", None])
def test_signs_of_missing_ids_are_refused(sign):
    with pytest.raises(CatalogError, match="column 'id' has no id in 2 rows; remove these rows"):
        ids(["17", sign, "18", sign])


@pytest.mark.parametrize("written", ["5.87722E+17", "5,87722E+17", "5.87722e17", "1.2376487206937559e+18"])
def test_ids_in_scientific_notation_are_refused(written):
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
