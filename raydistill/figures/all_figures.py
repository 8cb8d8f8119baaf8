"""Collect all figures: grids of galaxy images, accuracies and curves.

They come from `image_grids.py`, `charts.py`, `history.py` and `expert_curves.py`.

- Images are numpy arrays [N, H, W, 3] with the first row on top; transpose torch's [N, 3, H, W].
- They are uint8, or float in [0, 1]; floats outside are clipped, an all-NaN image is left blank.
- Every `path` may be a binary file open for writing.
- Equal input gives equal PNG bytes: no dates, no versions, no settings of the user's matplotlib.
"""

from raydistill.figures.image_grids import Provenance, atlas, displayable, image_grid
from raydistill.stages.distill.history import training_curves
from raydistill.stages.evaluate.charts import AccuracyRow, accuracy_table, confusion_matrix, network_matrix
from raydistill.stages.experts.curves import expert_curves

__all__ = [
    "AccuracyRow",
    "Provenance",
    "accuracy_table",
    "atlas",
    "confusion_matrix",
    "displayable",
    "expert_curves",
    "image_grid",
    "network_matrix",
    "training_curves",
]
