"""Galaxies of unknown classes are rejected, and fall into clusters."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from raydistill.stages.adapt import rejected
from raydistill.stages.adapt.rejected import (
    FEWEST,
    MAX_CLUSTERS,
    SMALLEST,
    Rejection,
    draw_clusters,
    reject,
    summary_of,
)

KNOWN, UNKNOWN = 200, 40


def survey(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return entropies of both surveys, and features and classes of the target."""
    rng = np.random.default_rng(seed)
    classes_N = np.array(["round"] * KNOWN + ["lens"] * UNKNOWN + ["ring"] * UNKNOWN, object)
    places = {"round": (0, 0, 0), "lens": (9, 0, 0), "ring": (0, 9, 0)}
    features_NF = np.array([places[name] for name in classes_N]) + 0.3 * rng.normal(size=(len(classes_N), 3))
    entropy_N = np.where(classes_N == "round", 0.1, 1.0) + 0.01 * rng.normal(size=len(classes_N))
    return 0.1 + 0.01 * rng.normal(size=500), entropy_N, features_NF.astype(np.float32), classes_N


def test_unknown_classes_are_rejected_and_clustered() -> None:
    source_M, entropy_N, features_NF, classes_N = survey()
    found = reject(source_M, entropy_N, features_NF)
    figures = summary_of(found, entropy_N, classes_N, ["lens", "ring"])
    assert found.threshold == np.quantile(source_M, 0.95)
    assert (np.diff(entropy_N[found.rows]) <= 0).all()
    assert figures["of_unseen"] == figures["auroc"] == 1
    assert figures["of_known"] < 0.15
    for name, other in (("lens", "ring"), ("ring", "lens")):  # a few known galaxies may be beside them
        (number,) = np.unique(found.cluster[classes_N[found.rows] == name])
        assert other not in classes_N[found.rows][found.cluster == number]
    counts = [one["count"] for one in figures["clusters"]]
    assert counts == sorted(counts, reverse=True)
    assert 2 <= len(counts) <= MAX_CLUSTERS


def test_order_of_the_galaxies_does_not_matter() -> None:
    source_M, entropy_N, features_NF, classes_N = survey()
    order = np.random.default_rng(1).permutation(len(classes_N))
    one = reject(source_M, entropy_N, features_NF)
    other = reject(source_M, entropy_N[order], features_NF[order])
    assert order[other.rows].tolist() == one.rows.tolist()
    assert (
        summary_of(other, entropy_N[order], classes_N[order], ["lens"])["clusters"]
        == summary_of(one, entropy_N, classes_N, ["lens"])["clusters"]
    )


def test_few_rejected_galaxies_are_not_clustered() -> None:
    source_M, entropy_N, features_NF, classes_N = survey()
    rows = np.r_[0:KNOWN, KNOWN : KNOWN + 3]
    found = reject(source_M + 0.5, entropy_N[rows], features_NF[rows])
    assert sorted(found.rows.tolist()) == [KNOWN, KNOWN + 1, KNOWN + 2]
    assert len(found.rows) < FEWEST
    assert found.numbers == []
    figures = summary_of(found, entropy_N[rows], classes_N[rows], [])
    assert (figures["clusters"], figures["adjusted_rand"], figures["of_unseen"]) == ([], None, None)
    assert figures["silhouette"] is None


def test_galaxies_beyond_the_limit_are_rejected_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejected, "MAX_CLUSTERED", 50)
    source_M, entropy_N, features_NF, classes_N = survey()
    found = reject(source_M, entropy_N, features_NF)
    assert len(found.rows) > 50
    assert (found.cluster[:50] > 0).all()
    assert (found.cluster[50:] == 0).all()
    assert summary_of(found, entropy_N, classes_N, ["lens", "ring"])["of_unseen"] == 1


def test_equal_features_are_one_cluster() -> None:
    source_M, entropy_N, features_NF, classes_N = survey()
    found = reject(source_M, entropy_N, np.ones_like(features_NF))
    assert found.numbers == [1]
    assert summary_of(found, entropy_N, classes_N, ["lens"])["silhouette"] is None


def test_outlier_is_no_cluster() -> None:
    source_M, entropy_N, features_NF, classes_N = survey()
    features_NF[KNOWN] = 100, 100, 100
    found = reject(source_M, entropy_N, features_NF)
    assert min(one["count"] for one in summary_of(found, entropy_N, classes_N, ["lens"])["clusters"]) >= SMALLEST
    assert len(found.numbers) > 1


def test_silhouette_tells_clusters_from_noise() -> None:
    source_M, entropy_N, features_NF, _ = survey()
    noise = np.random.default_rng(2).normal(size=(len(entropy_N), 16))
    apart, arbitrary = (reject(source_M, entropy_N, features).silhouette for features in (features_NF, noise))
    assert apart is not None
    assert arbitrary is not None
    assert apart > 0.6
    assert arbitrary < 0.2


def test_sheet_shows_the_galaxies_nearest_to_the_centre() -> None:
    shades = np.arange(0, 250, 10, dtype=np.uint8)
    images = np.broadcast_to(shades[:, None, None, None], (len(shades), 8, 8, 3))
    found = Rejection(0.5, np.arange(25), np.repeat([1, 2], [20, 5]), np.arange(25)[::-1].astype(float))
    stream = io.BytesIO()
    draw_clusters(stream, found, images)
    drawn = np.asarray(Image.open(stream).convert("L"))
    assert all((drawn == shade).sum() > 64 for shade in [*shades[8:20], *shades[20:]])
    assert (drawn == shades[1]).sum() < 64
