r"""Compare calibration of experts by kind of target, and of their distilled sets.

    RAYDISTILL_DATA=FOLDER python benchmarks/calibration.py [gz2_hart16 simulated9] [--networks 4] \
        [--epochs 16] [--distil] [--output runs/calibration]

Experts differ in `experts.targets` (hard, votes or counts, see `learning.dirichlet`) and its learning
rate. They are trained in this process, as a worker of the stage trains them. With --distil the
stages train and distil each kind, and fresh networks are trained on the images. All are scored on
test galaxies, as they are and with a temperature that is fitted on validation galaxies, to labels
or to votes (`calibration_measures.py` defines the figures):

- balanced accuracy, Brier score and cross entropy (nats) against labels;
- calibration error in percent: against labels in 15 bins of equal width and of equal counts, and
  against votes, that is the mean share of volunteers who agree with the predicted class;
- minus log likelihood (nats a galaxy) of the votes on the questions of the classes' paths:
  multinomial, and Dirichlet-multinomial with a scale that is fitted on validation galaxies, or with
  a network's own concentrations.

Votes are counts as `galaxies.votes.vote_counts` finds them: effective ones where a table publishes
weighted fractions. No galaxy is left out for a low confidence. The first row gives every galaxy the
mean votes of the training galaxies. Intervals are bootstraps over test galaxies and networks;
differences to the experts on classes are of the same galaxies. The rows of
`benchmarks/results/calibration.json` are replaced by survey.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from calibration_measures import PathVotes, bootstrap, cross_entropy, fit_temperature, scale_logits
from running import ROOT

import raydistill as rd
from raydistill.config import load
from raydistill.galaxies.selection import Split
from raydistill.galaxies.votes import PathQuestions
from raydistill.learning.dirichlet import ClassReadout, negative_log_likelihood
from raydistill.learning.metrics import balanced_accuracy, brier, confusion, in_bins
from raydistill.learning.networks import Network, build_network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.sgd import init_state
from raydistill.learning.training import fit, lr_schedule, train
from raydistill.learning.vote_likelihood import VoteLikelihood
from raydistill.pipeline.plan import Plan
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.writer import load_vote_counts, load_vote_totals
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.experts.targets import build_likelihood, count_targets
from raydistill.statistics.intervals import Interval

RESAMPLES = 500
RESULTS = ROOT / "benchmarks" / "results" / "calibration.json"
SURVEYS = {
    "gz2_hart16": ["curate.classes=gz2-5"],
    "simulated9": [
        "survey.num_galaxies=900",
        "curate.classes=gz2-5",
        "curate.per_class=null",
        "curate.split=[0.5,0.2,0.3]",
    ],
}
COMMON = [
    "network.width=32", "experts.training.batch_size=16", "distill.iterations=100",
    "distill.schedule={kind: fixed, max_start_epoch: 9}", "distill.validate_every=100", "tracking.enabled=false",
]  # fmt: skip
TARGETS = {"hard": "classes", "votes": "class votes", "counts": "counts of votes"}
LR = {"hard": 0.01, "votes": 0.01, "counts": 0.003}  # the loss of counts adds up about a hundred votes
FIGURES = (
    "balanced accuracy", "ECE", "ECE, equal counts", "ECE, votes", "Brier score", "cross entropy",
    "multinomial", "Dirichlet-multinomial", "own concentrations",
)  # fmt: skip
Rows = np.ndarray
Figure = Callable[[int, Rows], float]
Figures = dict[str, Figure]


class Galaxies(NamedTuple):
    """The pictures, labels and votes of a split.

    `agreement_NK` holds the volunteers' class probabilities, `votes` the votes on outcomes.
    """

    images: torch.Tensor
    labels_N: np.ndarray
    agreement_NK: np.ndarray
    questions: PathQuestions
    votes: PathVotes

    @classmethod
    def of(cls, plan: Plan, curated: CuratedSet, split: Split) -> Galaxies:
        images, labels = curated.to_torch(split).tensors
        questions = PathQuestions.of(plan.class_tree)
        counts = load_vote_counts(curated, split, plan.class_tree.tree)[:, list(questions.columns)]
        agreement = curated.probabilities(split, plan.class_tree).double().numpy()
        votes = PathVotes.of(questions.sizes, questions.paths, counts)
        return cls(images, labels.numpy(), agreement, questions, votes)


class Predictions(NamedTuple):
    """Class probabilities of one network on test galaxies, and outcome concentrations.

    The concentrations are a scale times the fractions that the probabilities imply, or the
    network's own.
    """

    probabilities_NK: np.ndarray
    scale: float
    own_NO: np.ndarray | None


@torch.no_grad()
def logits_of(network: Network, theta_P: torch.Tensor, images: torch.Tensor) -> np.ndarray:
    return torch.cat([network(theta_P, batch) for batch in images.split(64)]).double().numpy()


def train_experts(plan: Plan, curated: CuratedSet) -> list[torch.Tensor]:
    """Return the experts' final parameters, with the seeds and targets of the stage."""
    recipe, tree, num_classes = plan.config.experts, plan.class_tree, curated.num_classes
    images, labels = curated.to_torch("train").tensors
    network = build_network(plan.expert_network, num_classes, curated.summary.image_size)
    targets, objective = one_hot(labels, num_classes), None
    if recipe.targets == "votes":
        targets = curated.probabilities("train", tree)
    elif recipe.targets == "counts":
        targets, objective = torch.cat([targets, count_targets(curated, tree)], dim=1), build_likelihood(network, tree)
    ends = []
    for expert in range(recipe.num_experts):
        initial, training = (fold_in(plan.config.seed, "expert", expert, part) for part in ("initial", "training"))
        start = init_state(initial_parameters(network, initial))
        *_, state = fit(network, start, images, targets, recipe.training, training, objective=objective)
        ends.append(state.average_P)
    return ends


def train_on_distilled(plan: Plan, curated: CuratedSet, count: int) -> list[tuple[Network, torch.Tensor]]:
    """Return fresh networks trained on the plan's distilled set at its learning rates."""
    images = DistilledSet.open(plan.distilled.folder, verify=False).selected
    protocol = next(iter(plan.config.evaluate.protocols.values()))
    training = protocol.training.with_even_batches(len(images.images_SCHW))
    network = build_network(plan.config.network, curated.num_classes, curated.summary.image_size)
    data, schedule = (images.images_SCHW, images.targets_SK), lr_schedule(images.student_lrs, training)
    trained = []
    for number in range(count):
        seed = fold_in(plan.config.seed, "calibration", number)
        theta_P = initial_parameters(network, fold_in(seed, "initial"))
        theta_P = train(network, theta_P, *data, training, fold_in(seed, "training"), schedule)
        trained.append((network, theta_P))
    return trained


def networks_of(plan: Plan, curated: CuratedSet, distil: bool) -> dict[str, list[tuple[Network, torch.Tensor]]]:
    """Return the experts; with `distil` also networks trained on their distilled set."""
    network = build_network(plan.expert_network, curated.num_classes, curated.summary.image_size)
    if not distil:
        return {"experts": [(network, theta_P) for theta_P in train_experts(plan, curated)]}
    store = rd.experts(plan.config)
    rd.distill(plan.config)
    trained = train_on_distilled(plan, curated, store.num_experts)
    return {"experts": [(network, theta_P) for theta_P in store.ends()], "distilled": trained}


@torch.no_grad()
def concentrations_of(network: Network, theta_P: torch.Tensor, galaxies: Galaxies) -> np.ndarray | None:
    """Return a network's own concentrations [N, O]; None if it predicts only classes."""
    questions = galaxies.questions
    if not any(isinstance(layer, ClassReadout) for layer in network.module.modules()):
        return None
    likelihood = VoteLikelihood(network, len(questions.paths), questions.sizes)
    alpha = torch.cat([likelihood.concentrations(theta_P, batch) for batch in galaxies.images.split(64)])
    # Those of alternatives add up, as their votes do.
    return PathVotes.of(questions.sizes, questions.paths, alpha.double().numpy()).counts_NO


def predict(
    networks: list[tuple[Network, torch.Tensor]], validation: Galaxies, test: Galaxies
) -> dict[str, tuple[list[Predictions], list[float]]]:
    """Return the predictions and temperatures by what the temperature is fitted to."""
    one_hot = np.eye(test.agreement_NK.shape[1])[validation.labels_N]
    targets = {"none": None, "labels": one_hot, "votes": validation.agreement_NK}
    found: dict[str, tuple[list[Predictions], list[float]]] = {name: ([], []) for name in targets}
    for network, theta_P in networks:
        known, new = (logits_of(network, theta_P, galaxies.images) for galaxies in (validation, test))
        for name, target in targets.items():
            temperature = 1.0 if target is None else fit_temperature(known, target)
            scale = validation.votes.fit_scale(scale_logits(known, temperature))
            own = concentrations_of(network, theta_P, test) if target is None else None
            found[name][0].append(Predictions(scale_logits(new, temperature), scale, own))
            found[name][1].append(temperature)
    return found


def own_likelihood(alpha_NO: np.ndarray | None, votes: PathVotes) -> np.ndarray:
    """Return -log of the probability [N] of votes with a network's own concentrations."""
    nll = negative_log_likelihood(torch.from_numpy(alpha_NO), torch.from_numpy(votes.counts_NO), votes.sizes)
    return nll.sum(dim=1).numpy()


def figure_functions(predictions: list[Predictions], test: Galaxies) -> Figures:
    """Return each figure as a function of the network's index and the galaxies' rows."""
    everyone, num_classes = np.arange(len(test.labels_N)), test.agreement_NK.shape[1]
    one_hot = np.eye(num_classes)[test.labels_N]
    p = [own.probabilities_NK for own in predictions]
    confidence, chosen = [own.max(axis=1) for own in p], [own.argmax(axis=1) for own in p]
    right = [(own == test.labels_N).astype(float) for own in chosen]
    agreement = [test.agreement_NK[everyone, own] for own in chosen]
    per_galaxy = {
        "cross entropy": [cross_entropy(own, one_hot) for own in p],
        "multinomial": [test.votes.multinomial_nll(own) for own in p],
        "Dirichlet-multinomial": [test.votes.dirichlet_nll(own.probabilities_NK, own.scale) for own in predictions],
    }

    if all(own.own_NO is not None for own in predictions):
        per_galaxy["own concentrations"] = [own_likelihood(own.own_NO, test.votes) for own in predictions]

    def mean_of(values: list[np.ndarray]) -> Figure:
        return lambda s, rows: float(values[s][rows].mean())

    def accuracy(s: int, rows: Rows) -> float:
        predicted, true = torch.from_numpy(chosen[s][rows]), torch.from_numpy(test.labels_N[rows])
        return balanced_accuracy(confusion(predicted, true, num_classes))

    return {
        "balanced accuracy": accuracy,
        "ECE": lambda s, rows: 100 * in_bins(confidence[s][rows], right[s][rows]).error,
        "ECE, equal counts": lambda s, rows: (
            100 * in_bins(confidence[s][rows], right[s][rows], equal_counts=True).error
        ),
        "ECE, votes": lambda s, rows: 100 * in_bins(confidence[s][rows], agreement[s][rows]).error,
        "Brier score": lambda s, rows: brier(p[s][rows], test.labels_N[rows]),
        **{name: mean_of(values) for name, values in per_galaxy.items()},
    }


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all stages for one survey, and return its rows."""
    options = [f"output={arguments.output}"]
    training = [f"experts.num_experts={arguments.networks}", f"experts.training.epochs={arguments.epochs}"]
    common = [*SURVEYS[name], *COMMON, *training, *arguments.overrides]
    if Plan(load(name, [*common, *options])).survey is not None:
        rd.simulate(name, *common, *options)
    curated = rd.curate(name, *common, *options)
    rows = [mean_votes(Plan(load(name, [*common, *options])), curated)]
    print(_line(rows[0]), flush=True)
    reference: Figures = {}
    for targets in TARGETS:
        own = [*common, *options, f"experts.targets={targets}", f"experts.training.lr={LR[targets]}"]
        plan = Plan(load(name, own))
        validation, test = (Galaxies.of(plan, curated, split) for split in ("validation", "test"))
        for kind, networks in networks_of(plan, curated, arguments.distil).items():
            for temperature, (predictions, temperatures) in predict(networks, validation, test).items():
                figures = figure_functions(predictions, test)
                reference = reference or figures  # experts on classes, as they are
                rows.append(
                    {"networks": kind, "targets": targets, "temperature": temperature}
                    | {"fitted": [round(value, 3) for value in temperatures], "count": len(networks)}
                    | summarise(figures, reference, kind, len(networks), len(test.labels_N))
                )
                print(_line(rows[-1]), flush=True)
    splits = {split: len(curated.load(split).labels_N) for split in ("train", "validation", "test")}
    known = int(np.isfinite(load_vote_totals(curated, "test")).sum())
    return {"overrides": common, "galaxies": splits, "test_with_total_votes": known, "rows": rows}


def mean_votes(plan: Plan, curated: CuratedSet) -> dict[str, Any]:
    """Return the row of a prediction that is the same for every galaxy."""
    validation, test = Galaxies.of(plan, curated, "validation"), Galaxies.of(plan, curated, "test")
    mean_K = curated.probabilities("train", plan.class_tree).double().mean(dim=0).numpy()
    known, new = (np.tile(mean_K, (len(galaxies.labels_N), 1)) for galaxies in (validation, test))
    figures = figure_functions([Predictions(new, validation.votes.fit_scale(known), None)], test)
    found = summarise(figures, figures, "mean votes", 1, len(test.labels_N))
    return {"networks": "mean votes", "targets": None, "temperature": "none", "fitted": [], "count": 1} | found


def summarise(figures: Figures, reference: Figures, kind: str, num_networks: int, num_galaxies: int) -> dict[str, Any]:
    """Return each figure as [value, low, high].

    For experts, the differences to those on classes are added as `difference`.
    """
    values = {
        name: _rounded(bootstrap(one, num_networks, num_galaxies, 0, RESAMPLES), least=0)
        for name, one in figures.items()
    }
    if kind != "experts" or figures is reference:
        return values
    pairs = {
        name: _rounded(bootstrap(_minus(one, reference[name]), num_networks, num_galaxies, 0, RESAMPLES))
        for name, one in figures.items()
        if name in reference
    }
    return values | {"difference": pairs}


def _minus(one: Figure, other: Figure) -> Figure:
    return lambda s, rows: one(s, rows) - other(s, rows)


def _rounded(interval: Interval, least: float = -np.inf) -> list[float]:
    return [round(max(value, least), 4) for value in interval]


def _line(row: dict[str, Any]) -> str:
    temperature = "" if row["temperature"] == "none" else f", T to {row['temperature']}"
    name = row["networks"] + (f", {TARGETS[row['targets']]}{temperature}" if row["targets"] else "")
    digits = {"balanced accuracy": 3, "Brier score": 3, "cross entropy": 2}
    cells = []
    for figure in FIGURES:
        if figure not in row:
            cells.append("")
            continue
        value, low, high = (f"{one:.{digits.get(figure, 1)}f}" for one in row[figure])
        cells.append(f"{value} [{low}, {high}]")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("surveys", nargs="*", default=list(SURVEYS))
    parser.add_argument("--networks", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--distil", action="store_true")
    parser.add_argument("--output", default="runs/calibration")
    parser.add_argument("--overrides", nargs="*", default=[])
    arguments = parser.parse_args()
    for name in arguments.surveys:
        print(f"\n| {name} | {' | '.join(FIGURES)} |\n|{'---|' * (len(FIGURES) + 1)}", flush=True)
        measured = measure(name, arguments)
        stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(stored | {name: measured}, indent=1) + "\n")


if __name__ == "__main__":
    main()
