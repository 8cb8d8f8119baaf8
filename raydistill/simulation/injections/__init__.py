"""Define injections: physical models applied to real pictures of galaxies.

- `DustLane`: absorbs light of the galaxy.
- `Star`: adds a star in front of it.
- `Arc`: adds the images of a source that the galaxy deflects.
- `TidalTail`: adds a tail to the galaxy.
- `LowSurfaceBrightness`: dims the galaxy.

The geometry follows the galaxy. `draw` returns parameters within wide ranges, and `apply` is a pure
function of a picture and its parameters, so the parameters are the truth of a picture.

>>> import numpy as np
>>> from raydistill.simulation.injections import DustLane
>>> lane = DustLane(depth=(1.0, 2.0))
>>> truth = lane.draw(np.random.default_rng(0))
>>> 1 <= truth["depth"] <= 2
True
>>> lane.apply(np.zeros((32, 32, 3), np.uint8), truth).shape
(32, 32, 3)
"""

from __future__ import annotations

from raydistill.simulation.injections.base import InjectionModel, Parameters, Range
from raydistill.simulation.injections.models import Arc, DustLane, LowSurfaceBrightness, Star, TidalTail

Injection = DustLane | Star | Arc | TidalTail | LowSurfaceBrightness
