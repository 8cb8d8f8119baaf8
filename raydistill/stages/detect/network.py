"""A small detector: torchvision's FCOS, without pretrained weights.

FCOS: Tian et al. 2019, arXiv:1904.01355.
"""

from __future__ import annotations

from collections import OrderedDict
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from raydistill.imports import import_beside_torchvision, import_extra
from raydistill.morphology.structure import Floats
from raydistill.seeding import fold_in
from raydistill.stages.detect.config import MAX_DETECTIONS

STRIDES = (4, 8, 16)  # px between the points of each level of features
NORM_GROUPS = 8
LEAST_SCORE = 0.02
MAX_OVERLAP = 0.5  # of two detections; of two with more the better one is kept


class Detections(NamedTuple):
    """Boxes float64 `[D, 4]` [px], scores `[D]` and categories int64 `[D]` from 0.

    A box is left, top, right, bottom.
    """

    boxes_D4: Floats
    scores_D: Floats
    categories_D: npt.NDArray[np.int64]


def import_detection() -> ModuleType:
    """Import `torchvision.models.detection`; ConfigError if it is not installed."""
    name, fix = "torchvision.models.detection", "install the extra: pip install 'raydistill[detect]'"
    return import_extra(name, "a detector needs torchvision", "raydistill detect", fix, import_beside_torchvision)


def build_detector(
    num_categories: int, side: int, width: int, mean: tuple[float, ...], std: tuple[float, ...], seed: int
) -> nn.Module:
    """Return a detector with random weights.

    Parameters
    ----------
    num_categories
        Number of categories.
    side
        Side of the pictures [px].
    width
        Channels of the features, a multiple of 32.
    mean, std
        Statistics of the channels of the pictures, in units where white is 1.
    seed
        Decides the weights.
    """
    detection = import_detection()
    anchors = detection.anchor_utils.AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(fold_in(seed, "detector"))
        head = detection.fcos.FCOSHead(width, 1, num_categories, num_convs=2)
        return _detector_class(detection)(
            _Backbone(width),
            num_categories,
            side,
            side,
            list(mean),
            list(std),
            anchors,
            head,
            score_thresh=LEAST_SCORE,
            nms_thresh=MAX_OVERLAP,
            detections_per_img=MAX_DETECTIONS,
        )


def detect(detector: nn.Module, pictures_NHWC: npt.NDArray[np.uint8]) -> list[Detections]:
    """Return the detections in pictures, uint8 `[N, side, side, 3]`, by falling score."""
    detector.eval()
    with torch.inference_mode():
        detections = detector(list(to_tensor(pictures_NHWC)))
    return [
        Detections(
            raw["boxes"].double().cpu().numpy(), raw["scores"].double().cpu().numpy(), raw["labels"].cpu().numpy()
        )
        for raw in detections
    ]


def to_tensor(pictures_NHWC: npt.NDArray[np.uint8]) -> Tensor:
    """Return pictures as float32 `[N, 3, H, W]` in [0, 1]."""
    return torch.from_numpy(np.array(pictures_NHWC)).permute(0, 3, 1, 2).float() / 255


class _Block(nn.Sequential):
    """Two convolutions with group norm; the first one has the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        layers: list[nn.Module] = []
        for channels, step in ((inputs, stride), (outputs, 1)):
            layers += [
                nn.Conv2d(channels, outputs, 3, step, 1, bias=False),
                nn.GroupNorm(NORM_GROUPS, outputs),
                nn.ReLU(),
            ]
        super().__init__(*layers)


class _Backbone(nn.Module):
    """Features at strides 4, 8 and 16, with coarse added to fine (feature pyramid)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_channels = width  # FCOS reads it
        self.stem = nn.Sequential(nn.Conv2d(3, width // 2, 5, 2, 2), nn.ReLU())
        self.blocks = nn.ModuleList([_Block(width // 2, width, 2), _Block(width, width, 2), _Block(width, width, 2)])
        self.lateral = nn.ModuleList([nn.Conv2d(width, width, 1) for _ in STRIDES])

    def forward(self, pictures: Tensor) -> OrderedDict[str, Tensor]:
        features, levels = self.stem(pictures), []
        for block in self.blocks:
            features = block(features)
            levels.append(features)
        merged: Tensor | None = None
        result = []
        for layer, level in zip(reversed(list(self.lateral)), reversed(levels), strict=True):
            lateral = layer(level)
            merged = lateral if merged is None else lateral + nn.functional.interpolate(merged, scale_factor=2.0)
            result.append(merged)
        return OrderedDict((str(n), level) for n, level in enumerate(reversed(result)))


def _detector_class(detection: ModuleType) -> Any:
    """Return FCOS whose boxes are selected without torchvision's compiled operator.

    The operator is missing where torchvision was built for another torch (`imports`).
    """

    class Detector(detection.FCOS):  # type: ignore[name-defined]
        def postprocess_detections(
            self,
            head_outputs: dict[str, list[Tensor]],
            anchors: list[list[Tensor]],
            image_shapes: list[tuple[int, int]],
        ) -> list[dict[str, Tensor]]:
            outputs = {name: torch.cat(levels, dim=1) for name, levels in head_outputs.items()}
            detections = []
            for n, shape in enumerate(image_shapes):
                scores_AK = (outputs["cls_logits"][n].sigmoid() * outputs["bbox_ctrness"][n].sigmoid()).sqrt()
                score_A, label_A = scores_AK.max(dim=1)
                kept = (score_A > self.score_thresh).nonzero().flatten()
                kept = kept[score_A[kept].argsort(descending=True, stable=True)][: self.topk_candidates]
                boxes = self.box_coder.decode(outputs["bbox_regression"][n][kept], torch.cat(anchors[n])[kept])
                boxes = detection.fcos.box_ops.clip_boxes_to_image(boxes, shape)
                best = suppress(detection.fcos.box_ops.box_iou(boxes, boxes), self.nms_thresh)
                best = best[: self.detections_per_img]
                detections.append({"boxes": boxes[best], "scores": score_A[kept][best], "labels": label_A[kept][best]})
            return detections

    return Detector


def suppress(overlap_DD: Tensor, max_overlap: float) -> Tensor:
    """Return the rows that non-maximum suppression keeps, of boxes by falling score.

    A box is dropped if it overlaps a better kept box more than `max_overlap`.
    """
    free, kept = torch.ones(len(overlap_DD), dtype=torch.bool), []
    for row, near in enumerate((overlap_DD > max_overlap).cpu()):
        if free[row]:
            kept.append(row)
            free &= ~near
    return torch.tensor(kept, dtype=torch.int64)
