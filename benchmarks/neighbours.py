"""Compare the nearest galaxies by an expert's and by an encoder's features.

    RAYDISTILL_DATA=FOLDER python benchmarks/neighbours.py CONFIG --encoder PATH [key=value ...]

For each test galaxy the ten training galaxies with the most similar features are found, as
`raydistill similar` does it (cosine similarity of standardised features). Prints the share of them that has its class, mean
over the classes, and the differences to the expert with 95 % intervals over test galaxies.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from running import prepare_experts
from torch.nn.functional import normalize

from raydistill import load_config
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.pretrain.describers import open_describer
from raydistill.statistics.resampling import difference
from raydistill.statistics.standardise import Standardiser
from raydistill.text import text_table

NEIGHBOURS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--encoder", required=True)
    options, overrides = parser.parse_known_args()
    prepare_experts([options.config, *overrides])
    uses = {"expert": "experts", "encoder": options.encoder}
    shares = {name: same_class([options.config, *overrides, f"features={use}"]) for name, use in uses.items()}
    rows = [("features", "same class", "minus expert")]
    for name, (share_N, labels_N) in shares.items():
        of = difference(share_N[None], shares["expert"][0][None], labels_N, seed=0)
        ahead = "" if name == "expert" else f"{of.value:+.3f} [{of.low:.3f}, {of.high:.3f}]"
        rows.append((name, f"{np.mean([share_N[labels_N == k].mean() for k in np.unique(labels_N)]):.3f}", ahead))
    print(text_table(f"{options.config}: the {NEIGHBOURS} nearest galaxies", rows))


def same_class(words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return each test galaxy's share of neighbours of its class, and its class."""
    plan = Plan(load_config(*words))
    curated = CuratedSet.open(plan.curated.folder)
    describer, (train, test) = open_describer(plan, curated), (curated.load(name) for name in ("train", "test"))
    features = [describer.features(one.images_NHWC).double().numpy() for one in (train, test)]
    standardiser = Standardiser.of(features[:1])
    train_NF, test_MF = (normalize(torch.from_numpy(standardiser.apply(one))) for one in features)
    nearest = (test_MF @ train_NF.T).topk(NEIGHBOURS, dim=1).indices
    return (train.labels_N[nearest] == test.labels_N[:, None]).double().mean(dim=1).numpy(), test.labels_N.numpy()


if __name__ == "__main__":
    main()
