"""audit: compare a synthetic, distilled or other curated set with real galaxies.

    driver    -> draw samples of synthetic, held-out and training pictures
    Ray Data  -> features of a row group's sampled pictures; distances of all its pictures to the
                 synthetic ones                                    {block, …} -> a file per block
    driver    -> metrics, permutation tests, tables, report.html and quiz.html

A block depends on its own pictures and the synthetic sample alone, so any number of workers gives
the same bits. A killed audit resumes with the blocks that are missing.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tables import write_rows, write_table
from raydistill.artifacts.tensors import pack_tensors
from raydistill.errors import ArtifactIncompatible
from raydistill.galaxies.answers import reliable
from raydistill.galaxies.tree import DecisionTree
from raydistill.galaxies.trees import GZ2, TREES
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.ray_data import finish_blocks
from raydistill.runtime.resources import Processor
from raydistill.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.seeding import fold_in
from raydistill.stages.audit.artifact import (
    FINDINGS,
    FINDINGS_SCHEMA,
    NEAREST_SCHEMA,
    PICTURES,
    QUIZ,
    REPORT,
    SECOND,
    AuditReport,
    AuditSummary,
    Words,
    audit_spec,
    audited_spec,
    uses_encoder,
    uses_experts,
)
from raydistill.stages.audit.artifact import NEAREST as NEAREST_FILE
from raydistill.stages.audit.artifact import SUMMARY as SUMMARY_FILE
from raydistill.stages.audit.config import MIN_PICTURES, SPACES
from raydistill.stages.audit.forensics import AUDITED, HELD_OUT, DetectorRunner, area, open_further, score_pictures
from raydistill.stages.audit.inputs import AuditedSet, Galaxies, draw_samples, open_audited, open_second, with_others
from raydistill.stages.audit.metrics.classes import wrong_labels
from raydistill.stages.audit.metrics.comparison import compare, matched_classes
from raydistill.stages.audit.metrics.realism import Seen, consistency
from raydistill.stages.audit.pages import write_pages
from raydistill.stages.audit.worker import (
    SHRUNK,
    BlockMeasurer,
    Blocks,
    Measured,
    compared_pictures,
    read_measured,
    shrink_pixels,
)
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.select.conditions import votes_of
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.ensemble import check_experts
from raydistill.stages.pretrain.describers import open_describer
from raydistill.statistics.copies import closest_copies, isolation, twins
from raydistill.statistics.memorisation import (
    RealNeighbours,
    memorisation,
    num_nearest,
    picture_distances,
    two_generators,
)
from raydistill.statistics.testing import Finding, combine
from raydistill.storage import Folder, checked
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)

MAX_TWINS = 2000  # pictures of each sample that are compared with each other

PIXELS = "pixels"  # the feature space of the search for copies


def audit(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> AuditReport:
    """Write the audit of a set, or open the existing one.

    Raises
    ------
    ArtifactMissing
        The curated set, the audited set or the experts do not exist.
    ArtifactIncompatible
        The set or the experts were made from another curated set, or there are too few pictures.
    """
    spec = audit_spec(plan)
    if is_complete(spec):
        return AuditReport.open(spec.folder)
    curated = CuratedSet.open(plan.curated.folder)
    audited = open_audited(audited_spec(plan), curated)
    if uses_experts(plan):
        check_experts(TrajectoryStore.open(plan.trajectories.folder), curated)
    blocks = _draw(plan, curated, audited, audited_spec(plan).folder.uri)
    with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
        _measure(plan, curated, blocks)
        _compare(plan, curated, blocks, run)
    return AuditReport.open(spec.folder)


def _draw(plan: Plan, curated: CuratedSet, audited: AuditedSet, where: str) -> Blocks:
    """Return the blocks of the audit.

    Raises
    ------
    ArtifactIncompatible
        A sample would have fewer than `MIN_PICTURES` pictures.
    """
    config = plan.config.audit
    held_out, training = Galaxies([curated], audited.held_out), Galaxies([curated], ("train",))
    searched = Galaxies([curated, *audited.extra_sets], ("train",))
    matched = config.match_classes and audited.labels_N is not None
    synthetic: Any = audited.labels_N if matched else len(audited)
    samples = draw_samples(synthetic, held_out.labels_N, training.labels_N, config.num_pictures, config.seed)
    sizes = f"{len(audited)} {audited.kind}, {len(held_out)} held-out and {len(training)} training pictures"
    if len(samples) < MIN_PICTURES:
        proportions = " of the same class proportions" if matched else ""
        what = f"{sizes} give samples of {len(samples)}{proportions}, and an audit needs {MIN_PICTURES}"
        fix = "give more pictures" + (", or set audit.match_classes=false" if matched else "")
        raise ArtifactIncompatible(what, where, fix)
    if len(samples) < min(config.num_pictures, len(audited)):
        log.warning("audit: %s allow samples of %d; small differences stay unseen", sizes, len(samples))
    held_out_rows, training_rows = (
        with_others(rows, len(galaxies), config.num_pictures if audited.labels_N is not None else 0, config.seed)
        for rows, galaxies in ((samples.held_out, held_out), (samples.training, training))
    )
    blocks = Blocks(audited, held_out, training, searched, samples, (held_out_rows, training_rows))
    return blocks if config.second is None else _add_second(blocks, curated, Folder(config.second), config.seed)


def _add_second(blocks: Blocks, curated: CuratedSet, folder: Folder, seed: int) -> Blocks:
    """Return the blocks with the second generator's pictures and galaxies."""
    pictures, other = open_second(folder, curated, blocks.audited)
    order = np.random.default_rng(fold_in(seed, "second")).permutation(len(pictures))
    rows = np.sort(order[: len(blocks.samples)])
    return replace(blocks, second=pictures[rows], halves=Galaxies([curated, other], ("train",)))


def spaces_of(plan: Plan) -> tuple[str, ...]:
    """Return the feature spaces that the audit compares, in a fixed order."""
    wanted = plan.config.audit.spaces or SPACES
    unused = {"experts": not uses_experts(plan), "encoder": not uses_encoder(plan)}
    return tuple(name for name in SPACES if name in wanted and not unused.get(name, False))


def _measure(plan: Plan, curated: CuratedSet, blocks: Blocks) -> None:
    """Write the files of all blocks that are not finished."""
    resources, folder = plan.config.resources, audit_spec(plan).folder / PARTIAL
    nearest = num_nearest(len(blocks.training), len(blocks.held_out))
    if blocks.halves is not None:
        nearest = max(nearest, num_nearest(len(blocks.training), len(blocks.halves) - len(blocks.training)))
    measurer = BlockMeasurer(
        folder=folder.uri,
        curated=curated.folder.uri,
        image_size=curated.summary.image_size,
        spaces=spaces_of(plan),
        trajectories=plan.trajectories.folder.uri if uses_experts(plan) else None,
        networks=plan.config.networks,
        describer=open_describer(plan, curated) if uses_encoder(plan) else None,
        nearest=nearest,
        processor=Processor.of(resources),
    )
    if not checked.is_intact(folder, SHRUNK):
        held_out = blocks.held_out.images(blocks.samples.held_out)
        samples = {"synthetic": blocks.synthetic_images, "held_out": held_out}
        samples |= {} if blocks.second is None else {"second": blocks.second}
        pictures = {name: torch.tensor(shrink_pixels(images)) for name, images in samples.items()}
        checked.write(folder, SHRUNK, pack_tensors(pictures))
    tables = ((table["block"][0].as_py(), table["size"][0].as_py(), table) for table in blocks.tables())
    finish_blocks(folder, tables, measurer, resources, stage="audit", doing="measuring")


def _compare(plan: Plan, curated: CuratedSet, blocks: Blocks, run: Run) -> None:
    """Compare the measured pictures, and write tables and pages."""
    config, folder = plan.config.audit, audit_spec(plan).folder
    summary = _summarise(plan, curated, blocks)
    log.info("audit: compares %d pictures of each kind in %s", len(blocks.samples), ", ".join(summary.spaces))
    measured = read_measured(folder / PARTIAL, blocks, summary.spaces, tuple(curated.class_names))
    differences = compare(measured.held_out, measured.synthetic, measured.training, config.seed, config.permutations)
    labels_R = np.concatenate([blocks.training.labels_N, blocks.held_out.labels_N]) if summary.matched_classes else None
    memorised = memorisation({PIXELS: measured.neighbours}, config.seed, config.permutations, labels_R)
    of_pair = []
    if measured.halves is not None and blocks.halves is not None:
        halves_R = blocks.halves.labels_N
        of_pair = two_generators(measured.halves, len(blocks.samples), config.seed, labels_R=halves_R)
    findings = combine(
        differences,
        memorised,
        of_pair,
        consistency_findings(curated, blocks, measured),
        label_findings(measured, config.seed),
        *_copies(folder / PARTIAL, plan, measured),
    )
    folder.write(SUMMARY_FILE, summary.to_json())
    write_rows(folder, FINDINGS, [asdict(finding) for finding in findings], FINDINGS_SCHEMA)
    nearest = nearest_table(blocks, measured.nearest)
    write_table(folder, NEAREST_FILE, nearest)
    write_pages(folder, curated, blocks, measured, nearest, summary, findings, config.quiz_pictures)
    if config.pictures is not None:
        _score(plan, blocks, run)
    for name in (REPORT, QUIZ):
        run.artifact(folder.local(name))
    _log(findings, summary.words, run)


def _score(plan: Plan, blocks: Blocks, run: Run) -> None:
    """Write the score of each picture, and log how well scores separate the kinds."""
    config, folder = plan.config, audit_spec(plan).folder
    runner = DetectorRunner(folder=folder / PARTIAL, resources=config.resources, seed=config.audit.seed)
    further = open_further(config.audit.pictures or (), blocks.training.size)
    scores = score_pictures(runner, blocks.training, blocks.audited, blocks.held_out, further)
    write_table(folder, PICTURES, scores)
    found, real = (scores.filter(pc.field("set") == name)["score"].to_numpy() for name in (AUDITED, HELD_OUT))
    auc = area(found, real, config.audit.seed)
    run.metrics({"pictures/auc": auc.value}, 0)
    log.info(
        "audit: scores of single pictures tell audited from held-out ones with an area under the ROC curve "
        "of %.3f [%.3f, %.3f]", auc.value, auc.low, auc.high,
    )  # fmt: skip


def _copies(folder: Folder, plan: Plan, measured: Measured) -> tuple[list[Finding], list[Finding]]:
    """Return the findings about single copies: of training pictures, and in the set."""
    config, pictures = plan.config.audit, compared_pictures(folder.uri)
    rows = np.arange(min(len(pictures["synthetic"]), MAX_TWINS))
    pooled = np.concatenate([pictures["held_out"][rows], pictures["synthetic"][rows]])
    labels_N = matched_classes(measured.held_out.take(rows).labels_N, measured.synthetic.take(rows).labels_N)
    closest = closest_copies(
        isolation(measured.nearest.training.distances_SK), isolation(measured.fresh_HK), config.seed
    )
    repeated = twins(picture_distances(pooled, pooled), config.seed, config.permutations, labels_N)
    return [closest], repeated


def _summarise(plan: Plan, curated: CuratedSet, blocks: Blocks) -> AuditSummary:
    config, survey = plan.config.audit, curated.summary
    return AuditSummary(
        audited=blocks.audited.kind,
        other_survey=blocks.audited.survey,
        content=blocks.audited.content,
        survey=survey.survey,
        simulated=survey.simulated,
        image_size=survey.image_size,
        num_pictures=len(blocks.samples),
        num_synthetic=len(blocks.audited),
        num_held_out=len(blocks.held_out),
        num_training=len(blocks.training),
        num_searched=len(blocks.searched),
        spaces=spaces_of(plan),
        matched_classes=config.match_classes and blocks.audited.labels_N is not None,
        permutations=config.permutations,
        seed=config.seed,
        second="" if config.second is None else audit_spec(plan).parents[SECOND].identity,
    )


def nearest_table(blocks: Blocks, neighbours: RealNeighbours) -> pa.Table:
    """Return each sampled synthetic picture's nearest training and held-out galaxy."""
    training, held_out = blocks.searched.column("object_id"), blocks.held_out.column("object_id")
    columns = {
        "object_id": pa.array([blocks.audited.object_ids[row] for row in blocks.samples.synthetic]),
        "training_id": training.take(pa.array(neighbours.training.rows_SK[:, 0])),
        "training_distance": pa.array(neighbours.training.distances_SK[:, 0]),
        "held_out_id": held_out.take(pa.array(neighbours.held_out.rows_SK[:, 0])),
        "held_out_distance": pa.array(neighbours.held_out.distances_SK[:, 0]),
    }
    return pa.table(columns, schema=NEAREST_SCHEMA)


def _log(findings: list[Finding], words: Words, run: Run) -> None:
    """Record the metrics that are testable, and log what is significant."""
    findings = [finding for finding in findings if finding.testable]
    names = [f"{finding.metric}/{finding.feature}".replace(" ", "_") for finding in findings]
    run.metrics({f"audit/{name}": finding.value for name, finding in zip(names, findings, strict=True)}, 0)
    run.metrics({f"floor/{name}": finding.floor for name, finding in zip(names, findings, strict=True)}, 0)
    significant = [name for name, finding in zip(names, findings, strict=True) if finding.significant]
    log.info(
        "audit: %d of %d metrics differ significantly from %s galaxies",
        len(significant),
        len(findings),
        words.reference,
    )


# Collect what the experts see of an audit's pictures, and what was asked for.

EXPERTS = "experts"
LEARNED = (EXPERTS, "encoder")  # spaces whose networks have seen training galaxies


def consistency_findings(curated: CuratedSet, blocks: Blocks, measured: Measured) -> list[Finding]:
    """Return the findings about classes and answers; none without experts."""
    if measured.probabilities is None:
        return []
    tree = TREES[curated.summary.tree or GZ2.name]
    samples = blocks.samples
    votes = (
        reliable_votes(blocks.audited.votes, samples.synthetic, tree),
        reliable_votes(blocks.held_out.column("votes"), samples.held_out, tree),
        reliable_votes(blocks.training.column("votes"), samples.training, tree),
    )
    features = (measured.synthetic, measured.held_out, measured.training)
    synthetic, held_out, training = (
        Seen(probability_NK, sample.spaces[EXPERTS].values_ND, sample.labels_N, votes_NA)
        for probability_NK, sample, votes_NA in zip(measured.probabilities, features, votes, strict=True)
    )
    return consistency(synthetic, held_out, training, curated.class_names, tree.answers)


def label_findings(measured: Measured, seed: int) -> list[Finding]:
    """Return the findings about wrong labels, by features that are not learned.

    Learned features of training galaxies are not those of other galaxies.
    """
    held_out, training = measured.labelled
    fixed = {name: array for name, array in training.spaces.items() if name not in LEARNED} or training.spaces
    return wrong_labels(held_out, measured.synthetic, replace(training, spaces=fixed), seed)


def reliable_votes(
    column: pa.ChunkedArray | None, rows: npt.NDArray[np.int64], tree: DecisionTree
) -> npt.NDArray[np.float64] | None:
    """Return the votes of some rows, float64 [n, A]; None if no row has any.

    A vote is NaN where few volunteers were asked.
    """
    chosen = None if column is None else column.take(pa.array(rows))
    if chosen is None or chosen.null_count == len(chosen):
        return None
    return reliable(votes_of(chosen, len(tree.answers)).astype(np.float64), tree)
