"""Compare GalCatDiff's gate with attention, and class embeddings with numbers.

    RAYDISTILL_DATA=FOLDER python benchmarks/blocks.py CONFIG [key=value ...] [--seeds 3] [--forms NAME ...]
        [--channels 32 64 128]

CONFIG is that of a generator, with a catalogue of labels. Three blocks (the gate of arXiv:2506.16255,
plain attention, no attention) know the class of a galaxy by a learned embedding. A fourth form has
plain attention and the number of the class, a single value: it is given as the logarithm of a radius.
Each form is trained from several seeds, and its samples have the classes of training galaxies. They
are audited: distances over their floor (real against real), mean over the seeds with its 95 %
interval (Student's t), and beside it the difference to plain attention of the same seed. Also: the
share of samples whose class the config's experts recognise, and the loss on validation galaxies at
three quarters and at the end of the training, which shows how far it has converged.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from running import prepare_experts, run_stage, shown

from raydistill import load_config
from raydistill import open as open_artifact
from raydistill.config import CatalogSurvey
from raydistill.statistics.intervals import mean_interval, paired_difference
from raydistill.text import text_table

FORMS = {
    "attention": ("block: resnet", "class"),
    "gate": ("block: attention_gate", "class"),
    "no attention": ("attention: 0", "class"),
    "attention, class as a number": ("block: resnet", "size"),
}
METRICS = {
    "flux": ("wasserstein", "flux"),
    "radius": ("wasserstein", "half_light_radius"),
    "ellipticity": ("wasserstein", "ellipticity"),
    "red/green": ("wasserstein", "colour_red_green"),
    "green/blue": ("wasserstein", "colour_green_blue"),
    "Fréchet": ("frechet", "scattering"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--channels", nargs="+", type=int, default=[32, 64, 128], help="of the U-Net's levels")
    options, overrides = parser.parse_known_args()
    if "attention" not in options.forms:
        parser.error("--forms needs attention, from which the others are subtracted")
    common = [options.config, *overrides]
    common += [f"survey.catalog={with_numbers(common)}", "survey.columns.petro_r90=class_number"]
    common += ["sample.conditions={kind: galaxies, split: train}"]
    prepare_experts(common)  # they recognise classes
    found = {
        name: [figures(common, options.channels, *FORMS[name], seed) for seed in range(options.seeds)]
        for name in options.forms
    }
    names = list(found["attention"][0])
    rows = [("", *names)]
    for form, runs in found.items():
        cells = []
        for name in names:
            values, plain = (np.array([run[name] for run in one]) for one in (runs, found["attention"]))
            cells.append(
                shown(mean_interval(values))
                if form == "attention"
                else f"{values.mean():.3f}, {shown(paired_difference(values, plain), '+')}"
            )
        rows.append((form, *cells))
    print(text_table(f"{options.config}, {options.seeds} seeds: value, and minus plain attention", rows))


def with_numbers(common: list[str]) -> Path:
    """Write the catalogue with 10^n for the class's number n; return its path."""
    config = load_config(*common)
    assert isinstance(config.survey, CatalogSurvey)
    table = pd.read_csv(config.survey.catalog)
    codes, _ = pd.factorize(table[config.survey.columns["label"]], sort=True)
    path = Path(config.output, "numbered.csv").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    table.assign(class_number=10.0**codes).to_csv(path, index=False)
    return path


def figures(common: list[str], channels: list[int], network: str, condition: str, seed: int) -> dict[str, float]:
    """Train, sample and audit one form; return its figures."""
    words = [*common, f"generate.model={{network: {{kind: unet, channels: {channels}, {network}}}}}"]
    words += [f"generate.conditions=[{condition}]", f"generate.seed={seed}"]
    losses = open_artifact(run_stage("generate", words)).validation().to_pandas()
    run_stage("sample", words)
    table = open_artifact(run_stage("audit", words)).table()
    rows = table.set_index(["metric", "feature"])
    of = {name: float(rows.loc[key, "value"] / rows.loc[key, "floor"]) for name, key in METRICS.items()}
    of["recognised"] = float(table[table["metric"] == "class_recognised"]["value"].mean())
    return of | {"validation loss, three quarters": _near(losses, 0.75), "validation loss, end": _near(losses, 1.0)}


def _near(losses: pd.DataFrame, share: float) -> float:
    """Return the validation loss nearest to this share of the steps."""
    row = (losses["step"] - share * losses["step"].max()).abs().idxmin()
    return float(losses.loc[row, "loss"])


if __name__ == "__main__":
    main()
