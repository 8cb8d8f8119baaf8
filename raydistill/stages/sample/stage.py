"""sample: write pictures from a generator, an injection or the simulator.

    driver    -> pools of conditions, or of galaxies; the rows of each block, without their images
    Ray Data  -> make a block, filter it, write its file  {index, condition, …} -> {block, kept}
    driver    -> further blocks, until a filter has kept enough
    driver    -> one Parquet file per class, counts, a grid of pictures

A block is a pure function of its rows, so any number of workers gives the same bits. Finished
blocks are kept until the set is complete, and a resumed stage reads them.

An injection, or a generator that starts from real galaxies, needs their PNG files. The driver holds
those of the training split, and three times as much while it opens them. The rows of
`BLOCKS_AT_ONCE` blocks repeat them, so memory does not grow with the number of images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tensors import write_whitening
from raydistill.config import Sample
from raydistill.errors import ConfigError
from raydistill.learning.normalise import Whitening
from raydistill.log import get_logger, progress
from raydistill.pipeline.plan import Plan
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.ray_data import map_blocks
from raydistill.runtime.resources import Processor
from raydistill.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.classifier import expert_network
from raydistill.stages.experts.classify.ensemble import check_experts
from raydistill.stages.sample.artifact import NO_CLASS, SyntheticClass, SyntheticSet
from raydistill.stages.sample.report import draw_grid, log_summary, merge_blocks, summarise
from raydistill.stages.sample.sources.kinds import open_source
from raydistill.stages.sample.sources.pools import Pool
from raydistill.stages.sample.sources.requests import (
    Block,
    PoolProgress,
    Requests,
    count_wanted,
    next_blocks,
    share_equally,
)
from raydistill.stages.sample.worker import BlockSampler, PictureSource
from raydistill.storage import Folder, checked, disk_errors
from raydistill.tracking.tracker import Tracker

log = get_logger(__name__)

BLOCKS = f"{PARTIAL}/blocks"
BLOCKS_AT_ONCE = 512  # whose rows, with any pictures of real galaxies, are in memory together


def sample(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> SyntheticSet:
    """Write the synthetic set of the plan, or open the existing one.

    Raises
    ------
    ArtifactMissing
        The curated set, the generator of that source, or the filter's experts do not exist.
    ArtifactIncompatible
        The generator or the experts were trained on another curated set.
    ConfigError, CatalogError
        The conditions are wrong, or the generator was not trained with them. Classes or examples of
        the source are unknown.
    """
    spec = plan.synthetic
    if is_complete(spec):
        return SyntheticSet.open(spec.folder)
    curated = CuratedSet.open(plan.curated.folder)
    source = open_source(plan, curated)
    if plan.config.sample.filter is not None:
        _check_filter(plan, curated, source.pools)
    requests = Requests(
        pools=source.pools,
        class_names=curated.class_names if curated.has_classes else (),
        identity=spec.identity,
        generator=source.generator,
        guidance=None if source.sampling is None else source.sampling.guidance,
        seed=plan.config.sample.seed,
        made_by=plan.config.sample.source.kind,
        starts=source.starts,
    )
    with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
        classes = _write(plan, requests, source.pictures)
        summary = summarise(plan, curated, source, classes)
        spec.folder.write("summary.json", summary.to_json())
        if isinstance(curated.normalisation, Whitening):
            write_whitening(spec.folder, curated.normalisation)
        draw_grid(plan, summary, run)
        log_summary(summary, run)
    return SyntheticSet.open(spec.folder)


def _check_filter(plan: Plan, curated: CuratedSet, pools: Sequence[Pool]) -> None:
    """Raise if the filter's experts do not fit, or if a sample has no class.

    The filter compares a sample with its class.
    """
    store = TrajectoryStore.open(plan.filter_experts.folder)
    check_experts(store, curated)
    expert_network(store, curated, plan.config.networks)
    for pool in pools:
        if (pool.galaxies.labels_N == NO_CLASS).any():
            row = int(np.argmax(pool.galaxies.labels_N == NO_CLASS))
            which = f" of row {row + 1}" if len(pool.galaxies) > 1 else ""
            what = f"the filter compares a sample with its class, and the conditions{which} determine none"
            raise ConfigError(what, "sample.filter", "set it to null, or give more answers")


def _write(plan: Plan, requests: Requests, pictures: PictureSource) -> dict[int, SyntheticClass]:
    """Make all blocks, and write the files of the set; return the counts by label."""
    folder = plan.synthetic.folder
    blocks = folder / BLOCKS
    folder.remove("data")  # of an interrupted attempt
    pools = pool_progress(plan.config.sample, len(requests.pools))
    wanted = sum(pool.wanted for pool in pools)
    with disk_errors(folder.uri), progress(wanted, "sampling", "images") as shown, translate_errors("sample"):
        while todo := next_blocks(pools):
            kept = {block: _num_rows(blocks, block) for block in todo}
            missing = {block.name: block for block in todo if kept[block] is None}
            shown.resume_at(count_wanted(pools, kept))
            tables = (requests.table(block, pools[block.pool].numbers(block.number)) for block in missing.values())
            for name, count in _sample_blocks(plan, pictures, tables, blocks):
                kept[missing[name]] = count
                shown.update(count_wanted(pools, kept))
            for block in todo:
                pools[block.pool].kept.append(kept[block] or 0)
    _warn_of_missing(pools, requests)
    return merge_blocks(folder, blocks, pools, requests)


def pool_progress(config: Sample, num_pools: int) -> list[PoolProgress]:
    """Return the wanted number of samples, and the limit, of each pool."""
    shares = share_equally(config.num_images, num_pools)
    wanted = shares if config.per_class is None else [config.per_class] * num_pools
    factor = 1.0 if config.filter is None else config.filter.max_samples_per_image
    return [PoolProgress(count, math.ceil(count * factor), config.block_size) for count in wanted]


def _num_rows(blocks: Folder, block: Block) -> int | None:
    """Return the rows of a finished block; None if it is not finished."""
    data = checked.read(blocks, block.name)
    return None if data is None else pq.ParquetFile(pa.BufferReader(data)).metadata.num_rows


def _sample_blocks(
    plan: Plan, pictures: PictureSource, tables: Iterable[pa.Table], blocks: Folder
) -> Iterator[tuple[str, int]]:
    """Yield the name and the kept samples of each block when its file is complete."""
    config, resources = plan.config.sample, plan.config.resources
    experts = None if config.filter is None else (plan.filter_experts.folder.uri, plan.curated.folder.uri)
    sampler = BlockSampler(
        folder=blocks.uri,
        pictures=pictures,
        recogniser=experts,
        networks=plan.config.networks,
        min_probability=0.0 if config.filter is None else config.filter.min_probability,
        processor=Processor.of(resources),
    )
    waiting = iter(tables)
    while some := list(islice(waiting, BLOCKS_AT_ONCE)):
        for report in map_blocks(some, sampler.__call__, resources):
            yield from zip(report["block"].to_pylist(), report["kept"].to_pylist(), strict=True)


def _warn_of_missing(pools: Sequence[PoolProgress], requests: Requests) -> None:
    """Warn of classes for which the filter kept fewer samples than wanted."""
    short = [
        f"{requests.pools[number].name or 'all'} ({pool.total_kept} of {pool.wanted})"
        for number, pool in enumerate(pools)
        if pool.total_kept < pool.wanted
    ]
    if short:
        what = "sample: the filter kept fewer images than wanted of: %s; lower sample.filter.min_probability"
        log.warning("%s, or raise max_samples_per_image", what % ", ".join(short))
