"""Test pictures in the cells of a Parquet table: bytes, paths, structs and arrays."""

from __future__ import annotations

import base64

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deep_files import with_pillow
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.datasets.table import ImageTable
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.cells import is_picture_type, read_cell
from raydistill.galaxies.pictures.files import read_source
from raydistill.galaxies.pictures.images import RejectedImage, inspect, read_npy
from raydistill.galaxies.pictures.sources import ParquetImages
from raydistill.surveys.levels import resolve_levels

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)
PNG = with_pillow(IMAGE, "PNG")


def table(tmp_path, column: pa.Array, **options: object) -> ParquetImages:
    pq.write_table(pa.table({"id_str": [str(n) for n in range(len(column))], "image": column}), tmp_path / "v.parquet")
    return ParquetImages(str(tmp_path / "v.parquet"), **options)


def decoded(images: ParquetImages) -> list[np.ndarray]:
    column = images.dataset().to_table()["image"]
    return [images.decode(read_cell(cell, images.folder())) for cell in column]


NUMBERS = (pa.uint8(), pa.int64(), pa.int16(), pa.float32())
LAYOUTS = {
    "H x W x 3": IMAGE,
    "3 x H x W": np.moveaxis(IMAGE, 2, 0),
    "H x W": IMAGE[..., 0],
    "1 x H x W": IMAGE[None, ..., 0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("number", NUMBERS, ids=str)
@pytest.mark.parametrize("make_list", [pa.list_, pa.large_list, pa.list_view], ids=["list", "large", "view"])
def test_nested_lists_of_numbers_are_pictures(tmp_path, layout, number, make_list):
    values, kind = LAYOUTS[layout], number
    for _ in range(values.ndim):
        kind = make_list(kind)
    column = pa.array([values.tolist(), None], kind)
    images = table(tmp_path, column.slice(0, 1), value_range=(0, 255))
    expected = np.broadcast_to(IMAGE[..., :1], IMAGE.shape) if "3" not in layout else IMAGE
    np.testing.assert_array_equal(decoded(images)[0], expected)
    assert read_cell(column[1], "") is None


@pytest.mark.parametrize("number", [pa.uint8(), pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_lists_of_fixed_size_are_pictures(tmp_path, number):
    pixels = np.moveaxis(np.stack([IMAGE, IMAGE[::-1]]), 3, 1)
    column = pa.array(pixels.ravel().astype(number.to_pandas_dtype()), number)
    for size in pixels.shape[:0:-1]:
        column = pa.FixedSizeListArray.from_arrays(column, size)
    first, second = decoded(table(tmp_path, column, value_range=(0, 255)))
    np.testing.assert_array_equal(first, IMAGE)
    np.testing.assert_array_equal(second, IMAGE[::-1])


class Array3D(pa.ExtensionType):
    """The type of Hugging Face's `Array3D`."""

    def __init__(self) -> None:
        kind = pa.list_(pa.list_(pa.list_(pa.uint8())))
        super().__init__(kind, "datasets.features.features.Array3DExtensionType")

    def __arrow_ext_serialize__(self) -> bytes:
        return b'[[40, 36, 3], "uint8"]'


def test_arrays_of_hugging_face_are_pictures(tmp_path):
    kind = Array3D()
    column = pa.ExtensionArray.from_storage(kind, pa.array([IMAGE.tolist()], kind.storage_type))
    np.testing.assert_array_equal(decoded(table(tmp_path, column))[0], IMAGE)
    np.testing.assert_array_equal(ParquetImages("v").decode(read_cell(column[0], "")), IMAGE)


@pytest.mark.parametrize("kind", ["lists", "tensors"])
def test_null_in_lists_of_fixed_size_is_rejected(tmp_path, kind):
    storage = pa.array([IMAGE.ravel().tolist(), None], pa.list_(pa.uint8(), IMAGE.size))
    column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.uint8(), IMAGE.shape), storage)
    if kind == "lists":
        column = pa.array([IMAGE[..., 0].tolist(), None], pa.list_(pa.list_(pa.uint8(), 36), 40))
    with pytest.raises(CatalogError) as error:
        table(tmp_path, column).rows()
    assert "and null in it, which Arrow cannot read; remove the rows without a picture" in str(error.value)
    pq.write_table(pa.table({"image": column, "label": [0, 1]}), tmp_path / "set.parquet")
    with pytest.raises(CatalogError, match="and null in it, which Arrow cannot read"):
        ImageTable(root=str(tmp_path / "set.parquet")).index()


def test_tensors_with_a_permutation_are_rejected(tmp_path):
    kind = pa.fixed_shape_tensor(pa.uint8(), (3, 40, 36), permutation=[1, 2, 0])
    storage = pa.FixedSizeListArray.from_arrays(pa.array(np.moveaxis(IMAGE, 2, 0).ravel()), IMAGE.size)
    with pytest.raises(CatalogError, match=r"permutation=\[1,2,0\]\]>, not pictures"):
        table(tmp_path, pa.ExtensionArray.from_storage(kind, storage)).rows()


def test_fixed_shape_tensors_are_pictures(tmp_path):
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack([IMAGE, IMAGE[::-1].copy()]))
    first, second = decoded(table(tmp_path, tensors))
    np.testing.assert_array_equal(first, IMAGE)
    np.testing.assert_array_equal(second, IMAGE[::-1])


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_array_survives_the_cell(height, width, channels, is_float):
    values = np.random.default_rng(height * width).integers(0, 255, (height, width, channels))
    numbers = values.astype(float) if is_float else values
    cell = pa.array([numbers.tolist()])[0]
    content, _ = read_source(read_cell(cell, ""))
    np.testing.assert_array_equal(read_npy(content, ""), numbers)


@pytest.mark.parametrize(
    "rows", [[[[1, 2, 3], [4, 5]], [[1, 2, 3]]], [[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]], [], [[]], [None]], ids=str
)
def test_ragged_and_empty_arrays_are_rejected(rows):
    cell = pa.array([rows], pa.list_(pa.list_(pa.list_(pa.int64()))))[0]
    source = read_cell(cell, "")
    with pytest.raises(RejectedImage, match=r"wrong-bands|corrupt|wrong-size"):
        inspect(ParquetImages("v.parquet").decode(source))


def test_missing_numbers_are_not_finite():
    cell = pa.array([[[[1.0, None, 3.0]] * 4] * 4])[0]
    with pytest.raises(RejectedImage, match="not-finite"):
        ParquetImages("v.parquet", value_range=(0, 3)).decode(read_cell(cell, ""))


ENCODED = {
    "bytes": pa.array([PNG]),
    "large bytes": pa.array([PNG], pa.large_binary()),
    "dictionary": pa.array([PNG]).dictionary_encode(),
    "struct": pa.array([{"bytes": PNG, "path": "x.png"}]),
    "struct, path first": pa.array([{"path": "x.png", "bytes": PNG}]),
    "struct without path": pa.array([{"bytes": PNG}]),
    "bytes of one size": pa.array([PNG], pa.binary(len(PNG))),
    "view of bytes": pa.array([PNG], pa.binary_view()),
    "struct of large bytes": pa.array(
        [{"bytes": PNG, "path": "x"}], pa.struct({"bytes": pa.large_binary(), "path": pa.large_string()})
    ),
    "struct with a dictionary": pa.StructArray.from_arrays([pa.array([PNG]).dictionary_encode()], ["bytes"]),
    "struct with more": pa.array([{"bytes": PNG, "path": None, "width": 36}]),
}


@pytest.mark.parametrize("kind", ENCODED)
def test_encoded_pictures(tmp_path, kind):
    np.testing.assert_array_equal(decoded(table(tmp_path, ENCODED[kind]))[0], IMAGE)


@pytest.mark.parametrize("kind", ["struct", "text"])
def test_relative_paths_begin_at_the_folder_of_the_table(tmp_path, monkeypatch, kind):
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs" / "a.png").write_bytes(PNG)
    path = "imgs/a.png"
    column = pa.array([{"bytes": None, "path": path}]) if kind == "struct" else pa.array([path])
    if kind == "struct":
        column = column.cast(pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    np.testing.assert_array_equal(decoded(table(tmp_path, column))[0], IMAGE)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(decoded(ParquetImages("v.parquet"))[0], IMAGE)


OTHER = {
    "integers": pa.array([0]),
    "flat lists of floats": pa.array([[0.1, 0.2]]),
    "lists of structs": pa.array([[{"bytes": PNG, "path": None}]]),
    "structs without bytes": pa.array([{"data": PNG}]),
    "structs of text": pa.array([{"bytes": "x"}]),
    "lists of text": pa.array([[[["a"]]]]),
    "four axes": pa.array([[[[[1]]]]]),
    "dates": pa.array([0], pa.date32()),
    "null": pa.nulls(1),
}


@pytest.mark.parametrize("kind", OTHER)
def test_columns_of_other_types_are_rejected_with_their_type(tmp_path, kind):
    images = table(tmp_path, OTHER[kind])
    assert not is_picture_type(OTHER[kind].type)
    with pytest.raises(CatalogError) as error:
        images.rows()
    kind_in_file = str(OTHER[kind].type).replace("item:", "element:")
    assert f"column 'image' has the type {kind_in_file}, not pictures" in str(error.value)
    assert "set survey.images.image_column" in str(error.value)


@pytest.mark.parametrize("is_set", [False, True])
def test_raw_pixels_without_a_shape_are_rejected(tmp_path, is_set):
    rows = pa.table({"id_str": ["a", "b"], "label": [0, 1], "image": [IMAGE.tobytes(), IMAGE[::-1].tobytes()]})
    pq.write_table(rows, tmp_path / "v.parquet")
    images = ImageTable(root=str(tmp_path / "v.parquet")) if is_set else ParquetImages(str(tmp_path / "v.parquet"))
    selected = images.index().rows if is_set else pa.table({"path": []})
    with pytest.raises(CatalogError) as error:
        resolve_levels(images, selected)
    assert "column 'image' holds bytes, 4320 in each row, in no known picture format" in str(error.value)


@pytest.mark.parametrize("is_dictionary", [False, True])
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("https://example.invalid/7.jpg", "holds URLs (first: https://example.invalid/7.jpg); download the pictures"),
        (base64.b64encode(PNG * 2).decode(), "holds encoded text, not paths (first: iVBORw0KGgo"),
        ("data:image/png;base64,iVBOR", "holds encoded text"),
    ],
)
def test_text_that_is_not_a_path_is_rejected(tmp_path, text, sentence, is_dictionary):
    column = pa.array([text]).dictionary_encode() if is_dictionary else pa.array([text])
    with pytest.raises(CatalogError) as error:
        table(tmp_path, column).rows()
    assert sentence in str(error.value)
