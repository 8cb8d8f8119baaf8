"""Define `DetectionReport`: a galaxy detector, its fields and how well it detects.

- `fields/<split>/<number>.png`: fields of synthetic galaxies; split is train, validation or test.
- `train.json`, `validation.json`, `test.json`: their sources in the format of COCO, with exact
  boxes and masks. Every image and annotation has `synthetic = true`.
- `frames.json`: what photutils finds in the real frames, in the same format, with
  `synthetic = false`.
- `detections_test.json`, `detections_frames.json`: what the detector finds, as COCO's results.
- `labelled.json`, `detections_labelled.json`: the test frames of `detect.labelled` in the categories
  of the detector, and what it finds there. Image numbers are those of `labelled.json`.
- `detector.safetensors`: its weights.
- `metrics.json`: figures with 95 % intervals.
- `frames.png`: real frames with the boxes of both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.tensors import read_tensors
from raydistill.config import Config
from raydistill.errors import ArtifactCorrupt
from raydistill.stages.detect.network import build_detector
from raydistill.storage import Folder
from raydistill.text import text_table

if TYPE_CHECKING:
    import pandas as pd


KIND = kinds.DETECTION
METRICS, WEIGHTS, FIGURE = "metrics.json", "detector.safetensors", "frames.png"


@dataclass(frozen=True, repr=False)
class DetectionReport(Displayed):
    """An opened detection report.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    metrics
        The contents of `metrics.json`.

    Examples
    --------
    >>> import raydistill as rd
    >>> report = rd.open("runs/demo/detection-0123456789ab")  # doctest: +SKIP
    >>> report.table()  # doctest: +SKIP
    """

    metrics: dict[str, Any]

    _pictures = "frames.png"

    kind = KIND
    _json = ((METRICS, dict[str, Any]),)

    def _contents(self) -> str:
        return "a detector, its fields and its figures"

    def table(self) -> pd.DataFrame:
        """Return one row per figure.

        Returns
        -------
        pandas.DataFrame
            `images` (fields or frames), `truth` (exact or photutils), `method`, `metric`, `value`,
            and the ends of the 95 % interval, `low` and `high`.
        """
        import pandas as pd

        return pd.DataFrame(self.metrics["figures"])

    _rows = table

    def coco(self, name: str) -> Any:
        """Return a COCO document: "train", "validation", "test" or "frames"."""
        return json.loads(self.folder.read(f"{name}.json"))

    def detector(self) -> nn.Module:
        """Return the trained detector, for `stages.detect.network.detect`."""
        return read_detector(self.folder)


def read_detector(folder: Folder) -> nn.Module:
    """Return the detector of `detector.safetensors`."""
    tensors, info = read_tensors(folder, WEIGHTS)
    try:
        names, mean, std = info["categories"], tuple(info["mean"]), tuple(info["std"])
        detector = build_detector(len(names), info["side"], info["width"], mean, std, 0)
        detector.load_state_dict(tensors)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        what = f"'{WEIGHTS}' does not fit the detector"
        raise ArtifactCorrupt(what, folder.uri, "run 'raydistill detect CONFIG' again") from error
    return detector.eval()


HEAD = ("pictures", "truth", "method", "metric", "value", "95 % interval", "n")


def detection_text(config: Config, report: DetectionReport) -> str:
    """Return the figures."""
    rows = [
        (
            *(row[key] for key in ("images", "truth", "method", "metric")),
            f"{row['value']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            str(row["n"]),
        )
        for row in report.metrics["figures"]
    ]
    title = f"A detector trained on synthetic fields, on frames of {report.metrics['survey']}"
    return text_table(title, [HEAD, *rows]) + "\nOn these frames photutils is a reference, and not the truth."
