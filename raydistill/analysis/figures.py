"""The pictures, behind one door: sheets of galaxies (`sheets.py`) and charts of a run (`charts.py`).

Images are numpy, [N, H, W, 3] with the first row on top (torch's [N, 3, H, W] needs a transpose), uint8 or float in
[0, 1]; floats outside are clipped, an image that is all NaN is left blank. Every `path` may be a binary file open for
writing instead. Equal input gives equal PNG bytes: no dates, no versions, no settings of the user's matplotlib.
"""

from raydistill.analysis.charts import AccuracyRow, accuracy_table, confusion_matrix, network_matrix, training_curves
from raydistill.analysis.sheets import Provenance, atlas, displayable, image_grid

__all__ = [
    "AccuracyRow",
    "Provenance",
    "accuracy_table",
    "atlas",
    "confusion_matrix",
    "displayable",
    "image_grid",
    "network_matrix",
    "training_curves",
]
