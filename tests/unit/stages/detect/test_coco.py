"""Test annotations on hand-made cases, and documents against the format's schema."""

from __future__ import annotations

import jsonschema
import numpy as np
import pytest

from raydistill.morphology.structure import Box
from raydistill.stages.detect.scenes.fields import annotation, boxes_of, document, encode_mask
from tests.unit.stages.detect_tools import decode_mask

NUMBER, INTEGER, STRING = {"type": "number"}, {"type": "integer"}, {"type": "string"}


def strict(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(properties)}


# cocodataset.org/#format-data, with the marks of raydistill
SCHEMA = strict(
    info=strict(description=STRING, synthetic={"type": "boolean"}),
    images={
        "type": "array",
        "items": strict(id=INTEGER, width=INTEGER, height=INTEGER, file_name=STRING, synthetic={"type": "boolean"}),
    },
    annotations={
        "type": "array",
        "items": strict(
            id=INTEGER,
            image_id=INTEGER,
            category_id=INTEGER,
            area=NUMBER,
            iscrowd={"enum": [0, 1]},
            bbox={"type": "array", "items": NUMBER, "minItems": 4, "maxItems": 4},
            segmentation=strict(
                size={"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 2},
                counts={"type": "array", "items": {"type": "integer", "minimum": 0}},
            ),
            synthetic={"type": "boolean"},
        ),
    },
    categories={"type": "array", "items": strict(id=INTEGER, name=STRING, supercategory=STRING)},
)
MASK = np.array([[0, 1, 0], [0, 1, 1]], np.bool_)


def test_runs_go_down_the_columns_and_begin_with_zeros() -> None:
    assert encode_mask(MASK) == {"size": [2, 3], "counts": [2, 2, 1, 1]}
    assert encode_mask(np.ones((2, 2), np.bool_)) == {"size": [2, 2], "counts": [0, 4]}
    assert encode_mask(np.zeros((2, 2), np.bool_)) == {"size": [2, 2], "counts": [4]}


def test_a_decoded_mask_is_the_mask() -> None:
    for seed in range(20):
        mask = np.random.default_rng(seed).random((7, 5)) < 0.4
        encoding = encode_mask(mask)
        assert np.array_equal(decode_mask(encoding), mask)
        assert sum(encoding["counts"]) == mask.size
        assert sum(encoding["counts"][1::2]) == mask.sum()


def images() -> list[dict[str, object]]:
    record = annotation(MASK, Box(1, 0, 3, 2), 2, {"origin": "synthetic-1", "galaxy": None})
    return [
        {"file_name": "a.png", "width": 3, "height": 2, "annotations": []},
        {"file_name": "b.png", "width": 3, "height": 2, "annotations": [record, record]},
    ]


@pytest.mark.parametrize("synthetic", [True, False])
def test_a_document_fits_the_schema_and_is_marked(synthetic: bool) -> None:
    written = document(images(), ["spiral"], "Fields", synthetic=synthetic)
    jsonschema.validate(written, SCHEMA)
    assert [annotation["image_id"] for annotation in written["annotations"]] == [2, 2]
    assert [annotation["id"] for annotation in written["annotations"]] == [1, 2]
    assert written["annotations"][0]["bbox"] == [1, 0, 2, 2]
    assert written["annotations"][0]["area"] == 3
    assert [category["name"] for category in written["categories"]] == ["spiral", "star"]
    marks = [annotation["synthetic"] for annotation in (written["info"], *written["images"], *written["annotations"])]
    assert marks == [synthetic] * 5


def test_the_schema_rejects_a_document_without_boxes() -> None:
    written = document(images(), ["spiral"], "Fields", synthetic=True)
    del written["annotations"][0]["bbox"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, SCHEMA)


def test_boxes_become_corners() -> None:
    assert boxes_of(images()[1]["annotations"]).tolist() == [[1, 0, 3, 2]] * 2
    assert boxes_of(images()[0]["annotations"]).shape == (0, 4)
