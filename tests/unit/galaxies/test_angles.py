"""Test sexagesimal angles in any spelling."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import Angle
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.galaxies.numbers import NotANumber, to_degrees, to_numbers


@pytest.mark.parametrize(
    ("word", "kind", "degrees"),
    [
        ("12ʰ34ᵐ56.7ˢ", "right ascension", 188.73625),
        ("12h34m", "right ascension", 188.5),
        ("12h34.5m", "right ascension", 188.625),
        ("12.5h", "right ascension", 187.5),
        ("12 h 34 m 56.7 s", "right ascension", 188.73625),
        ("12hr34min56.7sec", "right ascension", 188.73625),
        ("12\u00a034\u00a056.7", "right ascension", 188.73625),
        ("188.73625 deg", "right ascension", 188.73625),
        ("188.73625°", "right ascension", 188.73625),
        ("188d44m10.5s", "right ascension", 188.73625),
        ("12H34M56.7S", "right ascension", 188.73625),
        ("12:34.5", "right ascension", 188.625),
        ("−10°22′25.7″", "declination", -10.373805555555555),
        ("–10 22 25.7", "declination", -10.373805555555555),
        ("+12d34m56s", "declination", 12.582222222222223),
        ("-00:30:00", "declination", -0.5),
        ("-0d30m", "declination", -0.5),
        ("-0d30", "declination", -0.5),
        ("+15d6", "declination", 15.1),
        ("1.5D+01", "declination", 15),
        ("45.5 degree", "declination", 45.5),
        ("10.5 arcsec", "declination", 10.5 / 3600),
        ("-12d 22' 25\"", "declination", -12.373611111111112),
        ("10:22:25.7S", "declination", -10.373805555555555),
        ("10:22:25.7 N", "declination", 10.373805555555555),
        ("10d22m25.7S", "declination", -10.373805555555555),
        ("10D22M25.7S", "declination", 10.373805555555555),
        ("10d22m25.7s", "declination", 10.373805555555555),
        ("10:22:25.7s", "declination", 10.373805555555555),
        ("-10:22:25,7", "declination", -10.373805555555555),
        ("12:34:56,7", "right ascension", 188.73625),
        ("12h34m56s.7", "right ascension", 188.73625),
        ("12ʰ34ᵐ56ˢ.7", "right ascension", 188.73625),
        ("12 34 56.7", "right ascension", 188.73625),
        ("188d44'10\".5", "right ascension", 188.73625),
    ],
)
def test_angles_are_read_in_any_spelling(word, kind, degrees):
    assert to_numbers(pa.array([word]), kind)[0] == pytest.approx(degrees, rel=1e-14)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("12h", "declination"), ("5.5h", "declination"), ("95d", "declination"), ("91 deg", "declination"),
        ("25h00m00s", "right ascension"), ("361 deg", "right ascension"), ("north", "declination"),
        ("12:34:56:78", "right ascension"), ("12h34m56m", "right ascension"), ("J123456.7+010203", "right ascension"),
        ("1:2:3 4", "declination"), ("5 kg", "declination"), ("10:22:25S", "right ascension"),
        ("1,234", "declination"), ("12:60:00", "right ascension"),
    ],
)  # fmt: skip
def test_words_that_are_not_angles_are_rejected_with_their_row(word, kind):
    with pytest.raises(NotANumber) as caught:
        to_numbers(pa.array(["01:00:00", word, "02:00:00", "nonsense"]), kind)
    assert (caught.value.value, caught.value.row) == (word, 2)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 359.9), st.sampled_from([":", " ", "hms"]), st.integers(0, 6), st.booleans())
def test_text_of_astropy_is_read_back(degrees, separator, precision, pad):
    angle = Angle(degrees, u.deg)
    text = angle.to_string(u.hour, sep=separator, precision=precision, pad=pad)
    expected = Angle(text, u.hourangle).deg
    assert to_degrees([text], [None], True, 15.0)[0] == pytest.approx(expected, rel=1e-13, abs=1e-13)
    signed = Angle((degrees - 180) / 2, u.deg).to_string(u.deg, sep=separator.replace("h", "d"), precision=precision)
    assert to_degrees([signed], [None], False, None)[0] == pytest.approx(Angle(signed, u.deg).deg, rel=1e-13, abs=1e-13)


def test_usual_spellings_are_read_faster_than_by_astropy():
    rng = np.random.default_rng(0)
    parts = zip(rng.integers(0, 24, 10_000), rng.integers(0, 60, 10_000), rng.uniform(0, 59.9, 10_000), strict=True)
    words = [f"{h:02d}:{m:02d}:{s:05.2f}" for h, m, s in parts]
    start = time.perf_counter()
    degrees = to_numbers(pa.array(words), "right ascension")
    middle = time.perf_counter()
    np.testing.assert_allclose(degrees, Angle(words, u.hourangle).deg, rtol=1e-14)
    assert middle - start < time.perf_counter() - middle
