"""Find clusters of points.

Shape suffixes: N points, F features, K clusters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

STARTS = 4  # k-means is begun so often, and the best result is kept


def k_means(
    points_NF: npt.NDArray[np.float64], count: int, seed: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Return each point's cluster [N] and the centres [K, F].

    Lloyd 1982, doi:10.1109/TIT.1982.1056489. The bits do not depend on the number of threads.
    """
    from sklearn.cluster import KMeans  # imported late, as it takes a second
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        found = KMeans(count, n_init=STARTS, random_state=seed % 2**32).fit(points_NF)
    return found.labels_, found.cluster_centers_
