"""Ask whether residuals carry morphology that class and structure do not.

    python benchmarks/residual_morphology.py --galaxies CURATED --table EFIGI.csv \
        --sets DISTILLED… --control DISTILLED…

The residual templates are prototype minus initial image of `--sets`, averaged over the sets. Each
galaxy of CURATED, from a survey that the sets have not seen, gets its correlation with each
template, in the best of four mirror images. An attribute of EFIGI is "present" from 0.5. Two logistic
regressions predict it out of fold: from class, structure (concentration, asymmetry, Gini, M20,
ellipticity, size, flux, two colours) and correlations with the *class means*, and from these and the
correlations with the residuals. The table has the gain in AUC with its 95 % bootstrap interval over
galaxies, the same gain with the templates of `--control` (sets of permuted labels), and with the
residual scores permuted among the galaxies of a class.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raydistill.galaxies.selection import SPLITS
from raydistill.morphology.pictures import morphology
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.text import text_table

ATTRIBUTES = ("Visible_Dust", "Hot_Spots", "Perturbation", "Arm_Strength")
PRESENT = 0.5
FOLDS, RESAMPLES = 5, 1000
Floats = np.ndarray


def correlations(images_NHW: Floats, templates_KHW: Floats) -> Floats:
    """Return the largest correlation over four mirror images, [N, K]."""
    templates = templates_KHW.reshape(len(templates_KHW), -1)
    templates = templates - templates.mean(axis=1, keepdims=True)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    best = []
    for flipped in (images_NHW, images_NHW[:, ::-1], images_NHW[:, :, ::-1], images_NHW[:, ::-1, ::-1]):
        flat = flipped.reshape(len(flipped), -1)
        flat = flat - flat.mean(axis=1, keepdims=True)
        best.append(flat / np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-9) @ templates.T)
    return np.max(best, axis=0)


def out_of_fold(features_ND: Floats, present_N: Floats, seed: int) -> Floats:
    """Return the predicted chances of galaxies that the regression was not fitted to."""
    scores = np.empty(len(present_N))
    for fit, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(features_ND, present_N):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        scores[test] = model.fit(features_ND[fit], present_N[fit]).predict_proba(features_ND[test])[:, 1]
    return scores


def gain(base_N: Floats, full_N: Floats, present_N: Floats) -> str:
    """Return the gain in AUC with its bootstrap interval."""
    rng, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        rows = rng.integers(len(present_N), size=len(present_N))
        drawn.append(roc_auc_score(present_N[rows], full_N[rows]) - roc_auc_score(present_N[rows], base_N[rows]))
    value = roc_auc_score(present_N, full_N) - roc_auc_score(present_N, base_N)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def templates_of(folders: list[str]) -> tuple[Floats, Floats]:
    """Return the mean residuals and the mean initial images, [K, H, W] each."""
    sets = [DistilledSet.open(folder) for folder in folders]
    initial = np.mean([made.initial.pixels().numpy().mean(axis=3) for made in sets], axis=0)
    return sets[0].residual(*sets[1:]).mean_SHWC.mean(axis=3), initial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--galaxies", required=True)
    parser.add_argument("--table", required=True)
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--control", nargs="+", required=True)
    options = parser.parse_args()
    curated = CuratedSet.open(options.galaxies)
    loaded = [curated.load(split) for split in SPLITS]
    images = np.concatenate([part.images_NHWC.numpy() for part in loaded]).astype(np.float64) / 255
    labels = np.concatenate([part.labels_N.numpy() for part in loaded])
    ids = [object_id for part in loaded for object_id in part.object_ids]
    table = pd.read_csv(options.table).set_index("PGCname").loc[ids]
    residuals, initial = templates_of(options.sets)
    grey, rng = images.mean(axis=3), np.random.default_rng(0)
    structure = np.concatenate([np.eye(curated.num_classes)[labels], morphology(images)], axis=1)
    base = np.concatenate([structure, correlations(grey, initial)], axis=1)
    scores = correlations(grey, residuals)
    permuted = np.empty_like(scores)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        permuted[rows] = scores[rng.permutation(rows)]
    control = correlations(grey, templates_of(options.control)[0])
    usable = np.isfinite(base).all(axis=1)
    rows_of_table = []
    for attribute in ATTRIBUTES:
        known = usable & (table[attribute].to_numpy() >= 0)
        present = (table[attribute].to_numpy() >= PRESENT)[known].astype(int)
        plain = out_of_fold(base[known], present, 0)
        gains = [
            gain(plain, out_of_fold(np.concatenate([base, extra], axis=1)[known], present, 0), present)
            for extra in (scores, control, permuted)
        ]
        rows_of_table.append(
            (attribute, str(present.sum()), str(len(present)), f"{roc_auc_score(present, plain):.3f}", *gains)
        )
    head = ("attribute", "present", "n", "AUC without", "gain of residuals", "of the control", "of permuted scores")
    print(text_table("AUC out of fold, and its gain by residual templates", [head, *rows_of_table]))


if __name__ == "__main__":
    main()
