r"""Compare speed and memory of the Ray stages with plain loops on the same machine.

    RAYDISTILL_DATA=FOLDER python benchmarks/scaling.py \
        [curate|experts|segments|predict|audit ...] [--images 100000]   an hour on two cores

curate   real galaxies repeated under new ids, against a pool of processes that does the same work
         per picture and writes one Parquet file. Memory is the peak of all processes (proportional
         set size, so shared pages count once).
experts  one and two workers, against the same training without Ray in one and two plain loops.
         Networks of `gz2_kaggle5`, and networks of a quarter of the width, where Ray's share is
         larger. Every round runs all four.
predict  a folder of real galaxies under new names, against a pool of processes that decodes and
         predicts the same blocks and writes the same files. Two experts of `gz2_kaggle5` with a
         quarter of the width.
audit    300 samples of an untrained generator against curated sets of two sizes, every picture of
         which is searched for copies.
segments `distill.trajectories_per_step=4` on one, two and four workers of one thread: digests,
         speed and traffic.

Writes `benchmarks/results/scaling.json`, rows as in `bench.py`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import ray
import torch
from bench import machine, row, show
from running import ROOT

from raydistill.artifacts.manifest import open_manifest
from raydistill.config import Curate, load
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.learning.calibration import Calibration
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.sgd import init_state
from raydistill.learning.training import fit, predict
from raydistill.pipeline.plan import Plan
from raydistill.runtime.cluster import set_environment, start_private
from raydistill.runtime.resources import Processor
from raydistill.stages.curate import stage as curate_stage
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.decoding import decode_row, to_table
from raydistill.stages.distill import stage as distill_stage
from raydistill.stages.experts import stage as experts_stage
from raydistill.stages.predict.stage import divide_into_blocks, load_experts
from raydistill.stages.predict.worker import BlockPredictor, Experts, PictureSource, Predictors
from raydistill.storage import Folder
from raydistill.surveys.opening import open_survey
from raydistill.tracking.tracker import Tracker

RESULTS = ROOT / "benchmarks" / "results" / "scaling.json"
SMALL = 10_000  # images of the small run, whose peak memory is compared with that of the full run
CORES = 2
BLOCK = 64  # images of one task of the pool
STORE_MB = 150  # of Ray's object store; far more data passes through it
SILENT = Tracker("", "scaling", enabled=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *CASES])
    parser.add_argument("--images", type=int, default=100_000)
    args = parser.parse_args()
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    with tempfile.TemporaryDirectory(prefix="rd-scaling-") as scratch:
        for name in args.names or CASES:
            rows = [known for known in rows if known["case"] != name]
            for result in CASES[name](Path(scratch), args.images):
                rows.append(result | {"case": name})
                show(result)
            RESULTS.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


# ---- curate ----


def curate(scratch: Path, images: int) -> Iterator[dict[str, Any]]:
    catalog, root = _repeated(scratch, images)
    few = scratch / "few.csv"
    few.write_text("".join(catalog.read_text().splitlines(keepends=True)[: SMALL + 1]))
    small, large = (
        _command(scratch, "curate", f"survey.images.root={root}", "name=many", f"survey.catalog={table}")
        for table in (few, catalog)
    )
    loop = _measured(__file__, "--loop", catalog, root, scratch / "loop.parquet")
    rates = {"Ray Data": images / large.seconds, "a pool": images / loop.seconds}
    detail = ", ".join(f"{name} {rate:.0f} images a second" for name, rate in rates.items())
    detail += f"; {large.driver_seconds / images * 1000:.2f} ms of an image are the driver's"
    ratio = rates["Ray Data"] / rates["a pool"]
    yield row(f"curate: {images} images, speed against a plain pool of processes", ratio, "≥0.8", detail)
    detail = f"{small.peak_mb:.0f} and {large.peak_mb:.0f} MB, with an object store of {STORE_MB} MB; the pool {loop.peak_mb:.0f} MB"
    yield row(f"curate: peak memory of {images} images against {SMALL}", large.peak_mb / small.peak_mb, "≤1.2", detail)


class _Cost(NamedTuple):
    seconds: float
    peak_mb: float
    driver_seconds: float  # CPU time of the first process


def _command(scratch: Path, stage: str, *words: object) -> _Cost:
    """Measure a stage of the command line."""
    settings = (f"output={scratch / 'runs'}", "tracking.enabled=false", f"resources.object_store_mb={STORE_MB}")
    return _measured("-m", "raydistill.cli", stage, "gz2_kaggle5", *words, *settings)


def _measured(*words: object) -> _Cost:
    """Run Python; return its seconds and the peak memory of all its processes."""
    began, command = time.monotonic(), [sys.executable, *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    driver, peak, busy = psutil.Process(process.pid), 0.0, 0.0
    log: list[bytes] = []
    reader = threading.Thread(target=lambda: log.extend(process.stderr or ()), daemon=True)
    reader.start()
    while process.poll() is None:
        peak = max(peak, sum(pss(member) for member in [driver, *children(driver)]))
        with suppress(psutil.Error):
            busy = sum(driver.cpu_times()[:2])
        with suppress(subprocess.TimeoutExpired):
            process.wait(2)  # one sample of the memory takes 0.1 s
    if process.returncode:
        raise SystemExit(b"".join(log).decode()[-3000:])
    return _Cost(time.monotonic() - began, peak / 2**20, busy)


def children(process: psutil.Process) -> list[psutil.Process]:
    """Return all processes below one; none if it has ended."""
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def pss(process: psutil.Process) -> float:
    """Return the proportional set size in bytes; 0 if the process has ended."""
    try:
        return float(process.memory_full_info().pss)
    except psutil.Error:
        return 0.0


def _repeated(scratch: Path, images: int) -> tuple[Path, Path]:
    """Write a vote table and a folder of `images` hard links to copies of real ones."""
    data = Path(os.environ["RAYDISTILL_DATA"]) / "gz2_kaggle"
    header, *lines = (data / "labels_5_classes.csv").read_text().splitlines()
    once, root = scratch / "once", scratch / "images"
    once.mkdir()
    root.mkdir()
    rows = [header]
    for number in range(images):
        object_id, rest = lines[number % len(lines)].split(",", 1)
        source = once / f"{object_id}.jpg"
        if not source.exists():
            shutil.copyfile(data / "images_training_rev1" / source.name, source)
        os.link(source, root / f"{1_000_000_000 + number}.jpg")
        rows.append(f"{1_000_000_000 + number},{rest}")
    catalog = scratch / "many.csv"
    catalog.write_text("\n".join(rows) + "\n")
    return catalog, root


def _loop(catalog: str, root: str, to: str) -> None:
    """Decode every picture in a pool of processes and write one Parquet file."""
    ids = pyarrow.csv.read_csv(catalog)["GalaxyID"].to_pylist()
    paths = [f"{root}/{object_id}.jpg" for object_id in ids]
    with multiprocessing.get_context("fork").Pool(CORES) as pool:
        curate = load("gz2_kaggle5", []).curate
        blocks = [(paths[first : first + BLOCK], curate) for first in range(0, len(paths), BLOCK)]
        tables = pool.starmap(_decode, blocks, chunksize=1)
    pq.write_table(pa.concat_tables(tables), to)


def _decode(paths: list[str], curate: Curate) -> pa.Table:
    return to_table([decode_row(0, path, path, FolderImages(root="."), curate) for path in paths])


# ---- experts and segments ----

SMALL_NETWORKS = (
    "network.width=32",
    "experts.training.compile=false",
    "experts.training.precision=float32",
)
OWN_NETWORKS = (  # of gz2_kaggle5
    "experts.training.compile=false",
    f"experts.training.precision={'bfloat16' if machine()['bfloat16'] else 'float32'}",
)
SEGMENTS = (
    *SMALL_NETWORKS, "experts.training.epochs=8", "experts.num_experts=2", "distill.schedule={kind: fixed, max_start_epoch: 5}",
    "distill.student_steps=20", "distill.expert_epochs=2", "distill.student_lr=0.006",
    "distill.trajectories_per_step=4", "distill.iterations=100", "distill.compile=false", "distill.precision=float32",
    "distill.validate_every=100", "distill.validation_epochs=1", "distill.picture_every=100", "resources.distill_cpus=1",
)  # fmt: skip
# The cost of one more expert, from a run with FEW and one with many, leaves out the start of the worker group.
FEW = 2
EXPERTS = {"width 128": (14, OWN_NETWORKS), "width 32": (26, SMALL_NETWORKS)}  # number of experts, overrides
ROUNDS = 3


def experts(scratch: Path, _: int) -> Iterator[dict[str, Any]]:
    for name, (many, words) in EXPERTS.items():
        yield from _experts(scratch, f"experts, {name}", many, words)


def _experts(scratch: Path, name: str, many: int, words: Sequence[str]) -> Iterator[dict[str, Any]]:
    def of_one_more(seconds_of: Callable[[Plan], float], at_once: int) -> tuple[float, float]:
        """Return the seconds of one more expert, and of a run with none."""
        overrides = (*words, "experts.training.epochs=2", f"resources.workers={at_once}")
        of_few, of_many = (
            seconds_of(_plan(scratch, *overrides, f"experts.num_experts={count}")) for count in (FEW, many)
        )
        each = (of_many - of_few) / (many - FEW)
        return each, of_few - FEW * each

    one, two, alone, beside, starts = (list[float]() for _ in range(5))
    for _round in range(ROUNDS):
        with _ray(cpus=CORES):  # stopped before the loops, which need all cores
            for at_once, results in ((1, one), (2, two)):
                each, start = of_one_more(_seconds_of_experts, at_once)
                results.append(each)
                starts.append(start)
        for at_once, results in ((1, alone), (2, beside)):
            results.append(of_one_more(_seconds_of_loops, at_once)[0])
    ratio, detail = _side_by_side(one, two)
    detail += f"; {statistics.median(starts):.0f} s for the start of a group, once"
    detail += "; two plain loops at once against one: {:.2f}, {}".format(*_side_by_side(alone, beside))
    yield row(f"{name}: throughput of two workers against one", ratio, "≥1.8", detail)
    ratio, detail = _side_by_side(one, alone)
    yield row(f"{name}: one worker against a plain loop without Ray", ratio, "≤1.2", detail)
    ratio, detail = _side_by_side(two, beside)
    yield row(f"{name}: two workers against two plain loops at once", ratio, "≤1.2", detail)


def _side_by_side(these: list[float], those: list[float]) -> tuple[float, str]:
    """Return the median of the rounds' ratios, and a text with the single figures."""
    ratios = [a / b for a, b in zip(these, those, strict=True)]
    detail = f"{statistics.median(these):.2f} and {statistics.median(those):.2f} s an expert, rounds "
    return statistics.median(ratios), detail + ", ".join(f"{ratio:.2f}" for ratio in ratios)


def _seconds_of_experts(plan: Plan) -> float:
    """Return the seconds of the experts stage, run from scratch."""
    curate_stage.curate(plan, SILENT)
    plan.trajectories.folder.remove()
    began = time.monotonic()
    experts_stage.experts(plan, SILENT)
    return time.monotonic() - began


def _seconds_of_loops(plan: Plan) -> float:
    """Train the experts without Ray in a process per worker; return the longest time.

    The processes are spawned, so that they read the malloc settings of Ray's workers: these halve
    the time of a step.
    """
    loops = plan.config.resources.workers or CORES
    with ProcessPoolExecutor(loops, multiprocessing.get_context("spawn")) as pool:
        return max(pool.map(_plain_experts, [plan] * loops, [plan.config.experts.num_experts // loops] * loops))


def _plain_experts(plan: Plan, number: int) -> float:
    """Train this number of experts one after another and return the seconds."""
    torch.set_num_threads(1)
    began = time.monotonic()
    curated = CuratedSet.open(plan.curated.folder)
    network = build_network(plan.config.network, curated.num_classes, curated.summary.image_size)
    train, validation = curated.load("train"), curated.load("validation")
    pixels, held_out = (curated.normalisation.apply(split.images_NHWC) for split in (train, validation))
    targets = one_hot(train.labels_N, curated.num_classes)
    for expert in range(number):
        state = init_state(initial_parameters(network, expert))
        for fitted in fit(network, state, pixels, targets, plan.config.experts.training, expert):
            predict(network, fitted.average_P, held_out)
    return time.monotonic() - began


def segments(scratch: Path, _: int) -> Iterator[dict[str, Any]]:
    took, digests = {}, set()
    with _ray(cpus=4):
        for workers in (1, 2, 4):
            plan = _plan(scratch, *SEGMENTS, f"resources.workers={workers}")
            curate_stage.curate(plan, SILENT)
            experts_stage.experts(plan, SILENT)
            plan.distilled.folder.remove()
            began = time.monotonic()
            distill_stage.distill(plan, SILENT)
            took[workers] = time.monotonic() - began
            digests.add(open_manifest(plan.distilled.folder, "distilled").content)
    detail = "content digests of the distilled sets"
    yield row("segments: different results of one, two and four workers", len(digests), "≤1", detail)
    detail = ", ".join(f"{workers}: {time_:.1f} s" for workers, time_ in took.items())
    detail += "; the start of a worker included"
    yield row("segments: two workers against one (speed)", took[1] / took[2], "≥1.5", detail)
    images = plan.config.distill.num_images(CuratedSet.open(plan.curated.folder).num_classes)
    floats = images * 3 * plan.config.curate.image_size**2
    detail = "images sent to each worker, one gradient per segment returned; kB per iteration with two workers"
    yield row("segments: data sent between two workers", 4 * floats * (1 + 2) / 1000, "≤1000", detail)


# ---- predict ----

PREDICTED = (*SMALL_NETWORKS, "experts.num_experts=2", "experts.training.epochs=2", "curate.per_class=200")
_predictor: BlockPredictor  # of a process of the pool


def prediction(scratch: Path, images: int) -> Iterator[dict[str, Any]]:
    plan = _plan(scratch, *PREDICTED)
    with _ray(cpus=CORES):
        curate_stage.curate(plan, SILENT)
        experts_stage.experts(plan, SILENT)
    _, root = _repeated(scratch, images)
    half = scratch / "half"
    half.mkdir()
    for path in sorted(root.iterdir())[: images // 2]:
        os.link(path, half / path.name)
    small = _command(scratch, "predict", half, *PREDICTED)
    ours, pool = [], []
    for number in range(ROUNDS):
        again = f"predict.block_size={1024 + number}"  # another identity, so that nothing is skipped
        ours.append(_command(scratch, "predict", root, *PREDICTED, again))
        pool.append(_measured(__file__, "--predict", scratch, root))
    ratios = [other.seconds / own.seconds for own, other in zip(ours, pool, strict=True)]
    rates = [images / statistics.median(cost.seconds for cost in costs) for costs in (ours, pool)]
    detail = f"Ray Data {rates[0]:.0f}, a pool {rates[1]:.0f} images a second, start included; rounds "
    detail += ", ".join(f"{ratio:.2f}" for ratio in ratios)
    yield row(
        f"predict: {images} images, speed against a plain pool of processes", statistics.median(ratios), "≥0.8", detail
    )
    peak = max(cost.peak_mb for cost in ours)
    detail = f"{small.peak_mb:.0f} and {peak:.0f} MB, with an object store of {STORE_MB} MB; "
    detail += f"the pool {max(cost.peak_mb for cost in pool):.0f} MB"
    yield row(f"predict: peak memory of {images} images against {images // 2}", peak / small.peak_mb, "≤1.2", detail)


def _predict_loop(scratch: str, root: str) -> None:
    """Decode and predict a folder in a pool of processes that write Parquet files."""
    plan = _plan(Path(scratch), *PREDICTED)
    pictures = open_survey(plan, root)
    curated = CuratedSet.open(plan.curated.folder)
    ensemble = load_experts(plan, curated)
    experts = Experts(ensemble, Calibration.none(curated.num_classes))
    predictors = Predictors(Processor(1, 0), curated.summary.image_size, experts, None)
    folder = Folder(Path(scratch) / "pool")
    folder.remove()
    blocks = divide_into_blocks(pictures.objects, plan.config.predict.block_size)
    source = PictureSource(pictures.reader, pictures.images, pictures.preparation)
    with multiprocessing.get_context("spawn").Pool(CORES, _start_predictor, (predictors, folder.uri, source)) as pool:
        for _ in pool.imap_unordered(_predict_block, blocks):
            pass


def _start_predictor(*arguments: Any) -> None:
    global _predictor
    _predictor = BlockPredictor(*arguments)


def _predict_block(block: pa.Table) -> int:
    return len(_predictor(block))


# ---- audit ----

AUDITED = (
    "generate.training.steps=2", "generate.training.batch_size=8", "sample.num_images=300", "sample.sampling.steps=2",
    "audit.num_pictures=300", "audit.permutations=699", "audit.spaces=[scattering, morphology]",
)  # fmt: skip


def auditing(scratch: Path, images: int) -> Iterator[dict[str, Any]]:
    catalog, root = _repeated(scratch, images)
    lines = catalog.read_text().splitlines(keepends=True)
    costs = []
    for count in (images // 2, images):
        catalog.write_text("".join(lines[: count + 1]))
        words = [f"survey.catalog={catalog}", f"survey.images.root={root}", f"name=of_{count}", *AUDITED]
        costs.append([_command(scratch, stage, *words) for stage in ("curate", "generate", "sample", "audit")][-1])
    small, large = costs
    rate = images / 2 / (large.seconds - small.seconds)
    detail = f"{small.peak_mb:.0f} and {large.peak_mb:.0f} MB, with an object store of {STORE_MB} MB; {small.seconds:.0f} and "
    detail += f"{large.seconds:.0f} s, so {rate:.0f} further images a second"
    yield row(
        f"audit: peak memory of {images} images against {images // 2}", large.peak_mb / small.peak_mb, "≤1.2", detail
    )


def _plan(scratch: Path, *words: str) -> Plan:
    return Plan(load("gz2_kaggle5", [f"output={scratch / 'runs'}", "tracking.enabled=false", *words]))


@contextmanager
def _ray(cpus: int) -> Iterator[None]:
    """Start a private Ray with this number of logical CPUs."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    set_environment()
    start_private(num_cpus=cpus)
    try:
        yield
    finally:
        ray.shutdown()


CASES: dict[str, Callable[[Path, int], Iterator[dict[str, Any]]]] = {
    "curate": curate,
    "experts": experts,
    "segments": segments,
    "predict": prediction,
    "audit": auditing,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--loop"]:
        _loop(*sys.argv[2:])
    elif sys.argv[1:2] == ["--predict"]:
        _predict_loop(*sys.argv[2:])
    else:
        main()
