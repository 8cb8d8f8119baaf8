"""Cluster the galaxies of the target that aligned networks reject.

They may be of classes that the source lacks. A galaxy is rejected if the entropy of its mean class
probabilities over the aligned networks exceeds that of all but 5 % of the source's test galaxies.
Ward's method clusters the rejected galaxies by the features of all aligned networks; fewer than
five galaxies are outliers, and the number of clusters has the best silhouette. A silhouette near 0
says that the clusters are arbitrary. Nothing here uses labels but the figures that tell how well
the clusters agree with the target's classes.

Shapes: N target galaxies, M source galaxies, F features, R rejected galaxies.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import adjusted_rand_score, roc_auc_score, silhouette_samples

from raydistill.figures.drawing import Target
from raydistill.figures.image_grids import image_grid
from raydistill.statistics.standardise import Standardiser

Floats = npt.NDArray[np.float64]

KNOWN_REJECTED = 0.05  # share of the source's galaxies above the threshold
MAX_CLUSTERS, MAX_CLUSTERED = 8, 4000
FEWEST = 2 * MAX_CLUSTERS  # galaxies to cluster
SMALLEST = 5  # galaxies of a cluster; fewer are outliers
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
        int64 [R], from 1, the largest cluster first; 0 of outliers.
    distance
        float64 [R], to the centre of the cluster.
    silhouette
        Mean silhouette, from -1 to 1, in which outliers count 0; None without two clusters.
    """

    threshold: float
    rows: npt.NDArray[np.int64]
    cluster: npt.NDArray[np.int64]
    distance: Floats
    silhouette: float | None = None

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
    rows = rows[target_N[rows] > threshold]
    standard_RF = Standardiser.of([features_NF]).apply(features_NF)[rows]
    cluster, silhouette = np.zeros(len(rows), np.int64), None
    if len(rows) >= FEWEST:
        cluster[:MAX_CLUSTERED], silhouette = _clusters(standard_RF[:MAX_CLUSTERED])
    distance = np.zeros(len(rows))
    for number in np.unique(cluster):
        members = standard_RF[cluster == number]
        distance[cluster == number] = np.linalg.norm(members - members.mean(axis=0), axis=1)
    return Rejection(threshold, rows, cluster, distance, silhouette)


def _clusters(features_RF: Floats) -> tuple[npt.NDArray[np.int64], float | None]:
    """Return the number of each galaxy's cluster, from 1, and the silhouette."""
    distances = pdist(features_RF)  # has the same bits on any number of threads
    tree, square_RR = linkage(distances, "ward"), squareform(distances)
    cuts = [fcluster(tree, count, "maxclust") for count in range(2, MAX_CLUSTERS + 1)]
    cuts = [np.where(np.bincount(cut)[cut] < SMALLEST, 0, cut) for cut in cuts]
    scores = [_silhouette(square_RR, cut) for cut in cuts]
    best, score = cuts[int(np.argmax(scores))].tolist(), max(scores)
    order = [number for number, _ in Counter(best).most_common() if number]
    numbers = np.array([order.index(number) + 1 if number else 0 for number in best], np.int64)
    return numbers, None if score == -1.0 else score


def _silhouette(square_RR: Floats, cut_R: npt.NDArray[np.int64]) -> float:
    """Return the mean silhouette, outliers as 0; -1 without two clusters."""
    inside = cut_R > 0
    if len(set(cut_R[inside].tolist())) < 2:
        return -1.0
    distances = square_RR[np.ix_(inside, inside)]
    return float(silhouette_samples(distances, cut_R[inside], metric="precomputed").sum() / len(cut_R))


def rows_of(
    found: Rejection, entropy_N: Floats, object_ids: list[str], classes_N: npt.NDArray[np.object_]
) -> list[dict[str, Any]]:
    """Return a row for each rejected galaxy, the highest entropy first."""
    return [
        {"object_id": object_ids[row], "class": classes_N[row], "entropy": entropy_N[row], "cluster": cluster}
        for row, cluster in zip(found.rows.tolist(), found.cluster.tolist(), strict=True)
    ]


def summary_of(
    found: Rejection, entropy_N: Floats, classes_N: npt.NDArray[np.object_], unseen: list[str]
) -> dict[str, Any]:
    """Return how well rejection and clusters agree with the target's classes.

    Parameters
    ----------
    entropy_N, classes_N
        Entropies [nat] and names of the classes of the target's galaxies.
    unseen
        Those that the source lacks.

    Returns
    -------
    dict
        `count` of the rejected galaxies, `threshold`, the rejected shares `of_known` and
        `of_unseen` classes, the `auroc` of the entropy for unseen ones (both None without one),
        `clusters` [{count, class, share}] with the most frequent class of each, their `silhouette`,
        and `adjusted_rand`, the agreement of clusters and classes of the clustered galaxies (None
        without clusters).
    """
    is_unseen, rejected = np.isin(classes_N, unseen), classes_N[found.rows]
    clusters, clustered = [], found.cluster > 0
    for number in found.numbers:
        members = rejected[found.cluster == number].tolist()
        name, count = Counter(members).most_common(1)[0]
        clusters.append({"count": len(members), "class": name, "share": count / len(members)})
    return {
        "threshold": found.threshold,
        "count": len(rejected),
        "of_known": float((~is_unseen)[found.rows].sum() / (~is_unseen).sum()),
        "of_unseen": float(is_unseen[found.rows].sum() / is_unseen.sum()) if is_unseen.any() else None,
        "auroc": float(roc_auc_score(is_unseen, entropy_N)) if is_unseen.any() else None,
        "clusters": clusters,
        "silhouette": found.silhouette,
        "adjusted_rand": float(adjusted_rand_score(rejected[clustered], found.cluster[clustered]))
        if clusters
        else None,
    }


def draw_clusters(path: Target, found: Rejection, images_NHWC: npt.NDArray[np.uint8]) -> None:
    """Draw a row for each cluster: the galaxies that are nearest to its centre."""
    members = [np.flatnonzero(found.cluster == number) for number in found.numbers]
    shown = [own[np.argsort(found.distance[own], kind="stable")][:SHOWN] for own in members]
    titles = [f"cluster {number} ({len(own)})" for number, own in zip(found.numbers, members, strict=True)]
    labels = np.repeat(np.arange(len(titles)), [len(own) for own in shown])
    caption = "Galaxies that the aligned networks reject, the nearest to the centre of their cluster first."
    image_grid(images_NHWC[found.rows[np.concatenate(shown)]], labels, titles, path, columns=SHOWN, caption=caption)
