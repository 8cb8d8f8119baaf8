"""FITS prototypes are read as written, and keep their handedness in DS9.

Their bytes are reproducible.
"""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raydistill.errors import ArtifactError
from raydistill.stages.distill.report import write_prototypes
from tests.prototype_files import read_prototypes

NAMES = ["smooth_round", "edge-on", "spirale à bras"]
HEADER = {"IPC": 2, "SEED": 7, "DIGEST": "d" * 64, "STRETCH": "SDSS gri asinh", "SIMULATD": True, "PIXSCALE": 0.1325}


def some_images(num: int = 6, size: int = 8) -> np.ndarray:
    return np.random.default_rng(1).normal(0.3, 0.5, (num, size, size + 2, 3)).astype(np.float32)


def some_labels(num: int = 6) -> np.ndarray:
    return np.arange(num) * len(NAMES) // num


def spiral(size: int = 65, sense: int = 1) -> np.ndarray:
    """Return a two-armed logarithmic spiral [H, W, 3].

    With `sense` +1 the arms turn anticlockwise outwards.
    """
    rows, columns = np.mgrid[:size, :size] - size // 2
    radius, angle = np.hypot(rows, columns) + 1e-3, np.arctan2(-rows, columns)  # rows count downwards
    arms = np.exp(-radius / 20) * (1 + np.cos(2 * (angle - sense * 2 * np.log(radius))))
    return np.stack([arms, arms**2, arms**3], axis=-1).astype(np.float32)


def winding(plane_upwards: np.ndarray) -> float:
    """Return the turn of the m = 2 phase from inside outwards, in radians.

    Rows count upwards, as in DS9.
    """
    size = len(plane_upwards)
    rows, columns = np.mgrid[:size, :size] - size // 2
    radius, angle = np.hypot(rows, columns), np.arctan2(rows, columns)
    phases = [
        np.angle((plane_upwards * np.exp(2j * angle))[(radius >= r) & (radius < r + 2)].sum()) for r in range(6, 26, 2)
    ]
    return float(np.ptp(np.unwrap(phases)) * np.sign(np.unwrap(phases)[-1] - phases[0]))


def test_a_spiral_has_the_same_handedness_in_ds9_and_jpeg(tmp_path: Path) -> None:
    pictures = np.stack([spiral(sense=1), spiral(sense=-1)])
    write_prototypes(tmp_path / "p.fits", pictures, np.array([0, 1]), NAMES, HEADER)
    with astropy_fits.open(tmp_path / "p.fits") as hdus:
        for picture, hdu in zip(pictures, hdus[1:3], strict=True):
            as_shown = picture[::-1, :, 0]  # the JPEG's rows, counted upwards
            assert winding(hdu.data[0]) == pytest.approx(winding(as_shown))
        assert winding(hdus[1].data[0]) > 1
        assert winding(hdus[2].data[0]) < -1


def test_axes_and_planes_are_as_documented(tmp_path: Path) -> None:
    image = np.zeros((1, 4, 6, 3), dtype=np.float32)
    image[0, 0, 5] = [0.1, 0.2, 0.3]  # the top right corner of the picture
    write_prototypes(tmp_path / "p.fits", image, np.array([0]), NAMES, HEADER)
    with astropy_fits.open(tmp_path / "p.fits") as hdus:
        header = hdus["PROTO", 1].header
        assert (header["NAXIS1"], header["NAXIS2"], header["NAXIS3"]) == (6, 4, 3)
        assert hdus["PROTO", 1].data[:, 3, 5] == pytest.approx([0.1, 0.2, 0.3])  # FITS: the last row is the top one


@settings(max_examples=15, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.just(3)),
        elements=st.floats(-2, 3, width=32),
    )
)
def test_images_are_read_as_written(images: np.ndarray) -> None:
    stream = io.BytesIO()
    labels = np.arange(len(images)) % len(NAMES)
    write_prototypes(stream, images, labels, NAMES, HEADER)
    result, _ = read_prototypes(io.BytesIO(stream.getvalue()))
    assert result.dtype.newbyteorder("=") == np.float32
    np.testing.assert_array_equal(result, images)


def test_names_and_cards_are_read_as_written(tmp_path: Path) -> None:
    write_prototypes(tmp_path / "p.fits", some_images(), some_labels(), NAMES, HEADER)
    _, header = read_prototypes(tmp_path / "p.fits")
    assert [header[f"CLASS{n}"] for n in range(3)] == ["smooth_round", "edge-on", r"spirale \xe0 bras"]
    assert {name: header[name] for name in HEADER} == HEADER
    assert header["ORIGIN"] == "raydistill"
    assert header["SIMULATD"] is True


def test_each_extension_names_its_class_and_the_table_agrees(tmp_path: Path) -> None:
    write_prototypes(tmp_path / "p.fits", some_images(), some_labels(), NAMES, HEADER)
    with astropy_fits.open(tmp_path / "p.fits") as hdus:
        hdus.verify("exception")
        table = hdus["LABELS"].data
        assert list(table["LABEL"]) == [0, 0, 1, 1, 2, 2]
        for row in table:
            header = hdus["PROTO", int(row["EXTVER"])].header
            assert header["LABEL"] == row["LABEL"]
            assert header["CLASS"] == row["CLASS"]
            assert [header[card] for card in HEADER] == list(HEADER.values())


def test_equal_prototypes_give_equal_bytes_without_a_date(tmp_path: Path) -> None:
    for name in ("a.fits", "b.fits"):
        write_prototypes(tmp_path / name, some_images(), some_labels(), NAMES, HEADER)
    content = (tmp_path / "a.fits").read_bytes()
    assert content == (tmp_path / "b.fits").read_bytes()
    assert b"DATE" not in content


def test_long_values_are_kept_without_a_warning() -> None:
    stream, survey = io.BytesIO(), "a survey with a name that goes on " * 4 + "end"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header = {**HEADER, "SURVEY": survey, "DIGEST": "sha256:" + "0" * 64}
        write_prototypes(stream, some_images(), some_labels(), ["x" * 90, "y", ""], header)
    _, header = read_prototypes(io.BytesIO(stream.getvalue()))
    assert (header["SURVEY"], header["CLASS0"]) == (survey, "x" * 90)


def test_text_of_a_user_cannot_break_the_header() -> None:
    stream, survey = io.BytesIO(), "spirals\nEND\0 à 'bras'"
    write_prototypes(stream, some_images(), some_labels(), ["x\ny", "y", ""], {**HEADER, "SURVEY": survey})
    _, header = read_prototypes(io.BytesIO(stream.getvalue()))
    assert (header["SURVEY"], header["CLASS0"]) == (r"spirals\nEND\x00 \xe0 'bras'", r"x\ny")
    assert (header["IPC"], header["SIMULATD"]) == (2, True)


def test_numbers_that_are_not_finite_are_rejected() -> None:
    with pytest.raises(ArtifactError, match="the FITS card PIXSCALE is inf; leave it out"):
        write_prototypes(io.BytesIO(), some_images(), some_labels(), NAMES, {**HEADER, "PIXSCALE": float("inf")})
    with pytest.raises(ArtifactError, match="images hold NaN or infinity"):
        write_prototypes(io.BytesIO(), some_images() * np.float32("nan"), some_labels(), NAMES, HEADER)
