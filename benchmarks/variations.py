"""Measure whether samples for the embedding of a galaxy are variations of it.

    RAYDISTILL_DATA=FOLDER python benchmarks/variations.py CONFIG --judge ENCODER [key=value ...]

Trains a generator that is given embeddings (`features` names whose), samples two pictures for each
test galaxy, and describes them with encoders, each standardised on training galaxies: the one whose
features are the condition, and JUDGE, which the generator has never used. For each of them:

own       cosine similarity of a sample to the galaxy that it was requested for
others    mean similarity of the sample to other test galaxies of its class
rank      share of these galaxies that are less similar to the sample than its own one; .5 by chance
pair      similarity of the two samples of a galaxy, which would be 1 without variation
real      similarity of a galaxy to the nearest other test galaxy of its class

± is the 95 % interval over galaxies, by bootstrap.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from running import run_stage
from torch import Tensor

from raydistill import load_config
from raydistill.config import Config
from raydistill.learning.encoders import features_of
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.pretrain.artifact import EncoderArtifact
from raydistill.stages.sample.artifact import SyntheticSet
from raydistill.statistics.intervals import Interval, percentile_interval
from raydistill.statistics.resampling import draws
from raydistill.text import text_table


def unit_features(uri: str, config: Config, curated: CuratedSet, images: list[Tensor]) -> list[Tensor]:
    """Return standardised features of unit length, [N, F], of normalised images."""
    train = curated.to_torch("train").tensors[0]
    encoder = EncoderArtifact.open(uri).encoder(train, curated.normalisation, (config.pretrain.network,))
    return [torch.nn.functional.normalize(features_of(encoder, one)) for one in images]


def measures(real_NF: Tensor, first_NF: Tensor, second_NF: Tensor, labels_N: Tensor) -> dict[str, np.ndarray]:
    """Return the measures of each galaxy, [N]."""
    alike_NN = (labels_N[:, None] == labels_N[None]) & ~torch.eye(len(labels_N), dtype=torch.bool)
    count_N = alike_NN.sum(dim=1).clamp_min(1)
    similar_NN = first_NF @ real_NF.T
    own_N = similar_NN.diagonal()
    values = {
        "own": own_N,
        "others": (similar_NN * alike_NN).sum(dim=1) / count_N,
        "rank": ((similar_NN < own_N[:, None]) & alike_NN).sum(dim=1) / count_N,
        "pair": (first_NF * second_NF).sum(dim=1),
        "real": (real_NF @ real_NF.T).where(alike_NN, -torch.inf).amax(dim=1),
    }
    return {name: value.numpy() for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--judge", required=True)
    options, overrides = parser.parse_known_args()
    rows: list[tuple[str, ...]] = []
    for name, means in figures([options.config, *overrides], options.judge).items():
        head = ("encoder", *means)
        rows.append((name, *(f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]" for mean in means.values())))
    print(text_table(f"{options.config}: variations of test galaxies", [head, *rows]))


def figures(arguments: list[str], judge: str) -> dict[str, dict[str, Interval]]:
    """Return the measures of both encoders; the arguments name the first one."""
    arguments = [*arguments, "generate.conditions=[embedding]"]
    config = load_config(*arguments)
    curated = CuratedSet.open(str(run_stage("curate", arguments)))
    run_stage("generate", arguments)
    test, labels_N = curated.to_torch("test").tensors
    ids = curated.table("test", ["object_id"])["object_id"].to_pylist()
    wanted = [f"sample.num_images={len(ids)}", "sample.conditions={kind: galaxies, split: test}"]
    sampled = []
    for seed in (0, 1):
        samples = SyntheticSet.open(str(run_stage("sample", [*arguments, *wanted, f"sample.seed={seed}"])))
        row_of = {name: row for row, name in enumerate(samples.table(["origin"])["origin"].to_pylist())}
        sampled.append(samples.to_torch().tensors[0][[row_of[name] for name in ids]])
    resamples = np.concatenate(list(draws(len(ids), 0, 500)))
    result = {}
    for name, uri in (("its own", config.features), ("judge", judge)):
        real_NF, first_NF, second_NF = unit_features(uri, config, curated, [test, *sampled])
        result[name] = {
            measure: percentile_interval(value_N.mean(), value_N[resamples].mean(axis=1))
            for measure, value_N in measures(real_NF, first_NF, second_NF, labels_N).items()
        }
    return result


if __name__ == "__main__":
    main()
