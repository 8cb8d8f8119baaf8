"""Cluster the galaxies of the target that aligned networks reject.

They may be of classes that the source lacks. A galaxy is rejected if the entropy of its class
probabilities, mean over the aligned networks, exceeds that of all but 5 % of the source's test
galaxies. Ward's method clusters the rejected galaxies by the features of all aligned networks; the
number of clusters has the best silhouette. Nothing here uses labels but the figures that tell how
well the clusters agree with the target's classes.

Shapes: N target galaxies, M source galaxies, F features, R rejected galaxies.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score, silhouette_score

from raydistill.artifacts.tables import LabelledImages
from raydistill.figures.drawing import Target
from raydistill.figures.image_grids import image_grid
from raydistill.statistics.standardise import Standardiser

Floats = npt.NDArray[np.float64]

SCHEMA = pa.schema(
    [
        ("object_id", pa.string()),
        ("class", pa.string()),  # of the target, unknown to the networks
        ("entropy", pa.float64()),  # mean over the aligned networks [nat]
        ("cluster", pa.int32()),  # from 1, the largest first; 0 if there are too few galaxies
    ]
)
KNOWN_REJECTED = 0.05  # share of the source's galaxies above the threshold
MAX_CLUSTERS, MAX_CLUSTERED = 8, 4000
FEWEST = 2 * MAX_CLUSTERS  # galaxies to cluster
SHOWN = 12  # galaxies of a cluster in the sheet


@dataclass(frozen=True)
class Rejection:
    """The rejected galaxies.

    Attributes
    ----------
    threshold
        Entropy [nat] above which a galaxy is rejected.
    rows
        int64 [R], rows of the target's galaxies, the highest entropy first.
    cluster
        int64 [R], from 1, the largest cluster first; 0 if there are too few galaxies.
    distance
        float64 [R], to the centre of the cluster.
    """

    threshold: float
    rows: npt.NDArray[np.int64]
    cluster: npt.NDArray[np.int64]
    distance: Floats

    @property
    def numbers(self) -> list[int]:
        """Return the numbers of the clusters, from 1."""
        return [int(number) for number in np.unique(self.cluster) if number]


def reject(source_M: Floats, target_N: Floats, features_NF: npt.NDArray[np.floating]) -> Rejection:
    """Return the rejected galaxies and their clusters.

    Parameters
    ----------
    source_M, target_N
        Entropies of both surveys' galaxies [nat].
    features_NF
        Features of the target's galaxies.
    """
    threshold = float(np.quantile(source_M, 1 - KNOWN_REJECTED))
    rows = np.argsort(-target_N, kind="stable")
    rows = rows[target_N[rows] > threshold][:MAX_CLUSTERED]
    standard_RF = Standardiser.of([features_NF]).apply(features_NF)[rows]
    cluster = _clusters(standard_RF) if len(rows) >= FEWEST else np.zeros(len(rows), np.int64)
    distance = np.zeros(len(rows))
    for number in np.unique(cluster):
        members = standard_RF[cluster == number]
        distance[cluster == number] = np.linalg.norm(members - members.mean(axis=0), axis=1)
    return Rejection(threshold, rows, cluster, distance)


def _clusters(features_RF: Floats) -> npt.NDArray[np.int64]:
    """Return the number of each galaxy's cluster, from 1, the largest first."""
    tree = linkage(features_RF, "ward")
    cuts = [fcluster(tree, count, "maxclust") for count in range(2, MAX_CLUSTERS + 1)]
    best = max(cuts, key=lambda cut: silhouette_score(features_RF, cut) if len(set(cut)) > 1 else -1.0)
    order = [number for number, _ in Counter(best.tolist()).most_common()]
    return np.array([order.index(number) + 1 for number in best], np.int64)


def rows_of(found: Rejection, entropy_N: Floats, galaxies: LabelledImages, names: list[str]) -> list[dict[str, Any]]:
    """Return a row of `SCHEMA` for each rejected galaxy, the highest entropy first."""
    return [
        {
            "object_id": galaxies.object_ids[row],
            "class": names[galaxies.labels_N[row]],
            "entropy": entropy_N[row],
            "cluster": cluster,
        }
        for row, cluster in zip(found.rows.tolist(), found.cluster.tolist(), strict=True)
    ]


def summary_of(found: Rejection, classes_N: npt.NDArray[np.object_], unseen: list[str]) -> dict[str, Any]:
    """Return how well rejection and clusters agree with the target's classes.

    Parameters
    ----------
    classes_N
        Names of the classes of the target's galaxies.
    unseen
        Those that the source lacks.

    Returns
    -------
    dict
        `count` of the rejected galaxies, `threshold`, the rejected shares `of_known` and `of_unseen`
        classes (None without one), `clusters` [{count, class, share}] with the most frequent class of
        each, and `adjusted_rand`, the agreement of clusters and classes (None without clusters).
    """
    is_unseen, rejected = np.isin(classes_N, unseen), classes_N[found.rows]
    clusters = []
    for number in found.numbers:
        members = rejected[found.cluster == number].tolist()
        name, count = Counter(members).most_common(1)[0]
        clusters.append({"count": len(members), "class": name, "share": count / len(members)})
    return {
        "threshold": found.threshold,
        "count": len(rejected),
        "of_known": float((~is_unseen)[found.rows].sum() / (~is_unseen).sum()),
        "of_unseen": float(is_unseen[found.rows].sum() / is_unseen.sum()) if is_unseen.any() else None,
        "clusters": clusters,
        "adjusted_rand": float(adjusted_rand_score(rejected, found.cluster)) if clusters else None,
    }


def draw_clusters(path: Target, found: Rejection, images_NHWC: npt.NDArray[np.uint8]) -> None:
    """Draw a row for each cluster: the galaxies that are nearest to its centre."""
    members = [np.flatnonzero(found.cluster == number) for number in found.numbers]
    shown = [own[np.argsort(found.distance[own], kind="stable")][:SHOWN] for own in members]
    titles = [f"cluster {number} ({len(own)})" for number, own in zip(found.numbers, members, strict=True)]
    labels = np.repeat(np.arange(len(titles)), [len(own) for own in shown])
    caption = "Galaxies that the aligned networks reject, the nearest to the centre of their cluster first."
    image_grid(images_NHWC[found.rows[np.concatenate(shown)]], labels, titles, path, columns=SHOWN, caption=caption)
