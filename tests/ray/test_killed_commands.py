"""Test `kill -9` in the middle of a command.

The same command keeps finished parts, makes damaged ones again, and ends with equal bits.
"""

from __future__ import annotations

import json
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from ray_tools import SILENT, copy_of, killing, tiny

from raydistill.artifacts.display import open_artifact
from raydistill.errors import ArtifactMissing
from raydistill.pipeline.plan import Plan
from raydistill.stages.adapt.stage import adapt
from raydistill.stages.audit.stage import audit
from raydistill.stages.augment.stage import augment
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.stage import curate
from raydistill.stages.detect.stage import detect
from raydistill.stages.distill.stage import distill
from raydistill.stages.experts.stage import experts
from raydistill.stages.generate.stage import generate
from raydistill.stages.hunt.stage import hunt
from raydistill.stages.predict.stage import predict
from raydistill.stages.sample.stage import sample
from tests.damage import flipped
from tests.e2e import tools

pytestmark = pytest.mark.usefixtures("cluster")

CURATED = ("survey", "curated")
TRAINED = (*CURATED, "trajectories")
INJECTION = "sample.source={kind: injection, model: {kind: dust_lane, depth: [1, 2]}}"
SIMULATOR = "sample.source={kind: simulator, picture_size: 64, parameters: {dust_lane: [0.5, 1.5]}}"


def look_at(plan: Plan, tracker: Any) -> SimpleNamespace:
    """Write labels of every second galaxy; return where."""
    galaxies = CuratedSet.open(plan.curated.folder).table("train", ["object_id"])["object_id"].to_pylist()
    path = Path(plan.curated.folder.uri).parent / "looked_at.csv"
    rows = [f"{name},{('clean', 'artifact')[number % 2]}" for number, name in enumerate(galaxies[::2])]
    path.write_text("\n".join(["object_id,label", *rows, ""]))
    return SimpleNamespace(folder=SimpleNamespace(uri=path))


# The sets and files that `COMMANDS` mentions.
SETS: dict[str, tuple[Any, ...]] = {
    "LOOKED_AT": (look_at,),
    "SYNTHETIC": (sample, INJECTION, "sample.num_images=40"),
    "TARGET": (curate, "curate.crop_fraction=0.75"),
    "FRAMES": (curate, "curate.image_size=64", "curate.crop_fraction=1"),
}


@pytest.fixture(scope="module")
def path_of(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return a function that makes a set once, and returns its folder."""
    root = copy_of(tiny_root, tmp_path_factory.mktemp("sets"), *CURATED)

    @cache
    def path_of(name: str) -> str:
        stage, *words = SETS[name]
        return str(stage(Plan(tiny(root, *words)), SILENT).folder.uri)

    return path_of


@pytest.fixture(scope="module")
def predicted_root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with experts and predictions."""
    root = copy_of(tiny_root, tmp_path_factory.mktemp("predicted"), *TRAINED)
    predict(Plan(tiny(root)), SILENT)
    return root


@dataclass(frozen=True)
class KilledCommand:
    """A command that is killed.

    Attributes
    ----------
    build
        Returns the artifact of the command, from this process.
    kinds
        Artifacts of the run that it reads.
    root
        Fixture with the run folder that holds them.
    overrides
        Make it small.
    parts
        Pattern of the finished parts below its folder.
    least
        Number of finished parts at which it is killed.
    later
        File that must exist too when it is killed.
    worker
        Worker that is killed too, when the command has resumed and finished one more part.
    """

    build: Callable[[Plan], Any]
    kinds: tuple[str, ...]
    overrides: tuple[str, ...]
    parts: str
    least: int
    root: str = "tiny_root"
    later: str = ""
    worker: str = ""

    def finished(self, folder: Path) -> dict[str, int]:
        """Return the time of modification [ns] of each finished part."""
        result = {}
        for path in folder.glob(self.parts):
            if not path.name.startswith("."):  # of a file that is being written
                with suppress(FileNotFoundError):  # removed in the meantime
                    result[path.relative_to(folder).as_posix()] = path.stat().st_mtime_ns
        return result

    def is_under_way(self, folder: Path) -> bool:
        """Return whether the command may be killed."""
        return len(self.finished(folder)) >= self.least and (not self.later or (folder / self.later).exists())


def filtering(options: str) -> KilledCommand:
    """Return a curation whose filter has these options."""
    return KilledCommand(
        build=lambda plan: curate(plan, SILENT),
        kinds=("survey",),
        overrides=(
            f"curate.filter={{false_rejection_rate: 0.1, steps: 20, {options}}}",
            "resources.cpus=2",  # one network after the other
        ),
        parts="partial/filter-*.safetensors",
        least=1,
    )


FITS, BLOCKS = "partial/fits/*.safetensors", "partial/blocks/*"
COMMANDS = {
    "augment": KilledCommand(
        build=lambda plan: augment(plan, SILENT),
        kinds=CURATED,
        overrides=(
            "augment.methods=[oversampling, mixup, real_synthetic, real_recombined]", "augment.shots=[2]", "augment.seeds=2",
            "augment.ratios=[1]", "augment.min_recognised=[null]", "augment.lr_grid=[0.01, 0.03]",
            "augment.network={depth: 1, width: 4}", "augment.training={steps: 12, batch_size: 8, average: 2}",
            "augment.record_at=[4]", "augment.synthetics={lanes: [SYNTHETIC]}",
        ),
        parts=FITS,
        least=3,
        worker="train_fit",
    ),
    "adapt": KilledCommand(
        build=lambda plan: adapt(plan, SILENT),
        kinds=CURATED,
        overrides=(
            "adapt.target=TARGET", "adapt.classes={round: null}", "adapt.network={depth: 2, width: 8}", "adapt.lr_grid=[0.01]",
            "adapt.training={steps: 30, batch_size: 8}", "adapt.strengths=[0.5, 2]", "adapt.seeds=2",
        ),
        parts=FITS,
        least=2,
        worker="train_fit",
    ),
    "adapt-features": KilledCommand(
        build=lambda plan: adapt(plan, SILENT),
        kinds=TRAINED,
        overrides=(
            "adapt.target=TARGET", "adapt.classes={round: null}", "adapt.features=true", "adapt.network={kind: mlp, width: 16}",
            "adapt.lr_grid=[0.03]", "adapt.training={steps: 300, batch_size: 8}", "adapt.strengths=[0.5, 2]", "adapt.seeds=2",
        ),
        parts=FITS,
        least=2,
        worker="train_fit",
    ),
    "detect": KilledCommand(
        build=lambda plan: detect(plan, SILENT),
        kinds=CURATED,
        overrides=(
            "detect.set=SYNTHETIC",
            "detect.fields={side: 64, contrast: 8.81, min_area: 12}", "detect.train_fields=16", "detect.test_fields=8",
            "detect.steps=20", "detect.frames=FRAMES",
        ),
        parts="fields/*/*.png",
        least=16 + 2 * 8,
        later="partial/state.safetensors",
    ),
    "sample-injection": KilledCommand(
        build=lambda plan: sample(plan, SILENT),
        kinds=CURATED,
        overrides=(INJECTION, "sample.block_size=1", "sample.num_images=12"),
        parts=BLOCKS,
        least=2,
    ),
    "sample-simulator": KilledCommand(
        build=lambda plan: sample(plan, SILENT),
        kinds=CURATED,
        overrides=(SIMULATOR, "sample.block_size=1", "sample.num_images=60"),
        parts=BLOCKS,
        least=2,
    ),
    "sample-recombination": KilledCommand(
        build=lambda plan: sample(plan, SILENT),
        kinds=CURATED,
        overrides=("sample.source={kind: recombination, similar: 3}", "sample.block_size=1", "sample.num_images=30"),
        parts=BLOCKS,
        least=2,
    ),
    "curate-filter": filtering("reasons: [low-surface-brightness]"),
    "curate-labels": filtering("reasons: [artifact], labels: LOOKED_AT"),
    "audit-pictures": KilledCommand(
        build=lambda plan: audit(plan, SILENT),
        kinds=TRAINED,
        overrides=("audit.pictures=[]", "audit.set=SYNTHETIC"),
        parts="partial/detector-*.safetensors",
        least=1,
    ),
    "audit": KilledCommand(
        build=lambda plan: audit(plan, SILENT),
        kinds=TRAINED,
        overrides=("audit.permutations=699", "audit.set=SYNTHETIC"),
        parts=BLOCKS,
        least=2,
    ),
    "predict": KilledCommand(
        build=lambda plan: predict(plan, SILENT),
        kinds=TRAINED,
        overrides=("predict.block_size=1", "predict.survey=TARGET"),
        parts="partial/block-*.json",  # written after the block
        least=3,
    ),
    "hunt": KilledCommand(
        build=lambda plan: hunt(plan, SILENT),
        kinds=(*TRAINED, "predictions"),
        root="predicted_root",
        overrides=(
            "hunt.per_round=5", "hunt.background=10",
            "hunt.synthetic={lanes: {positive: SYNTHETIC, negative: SYNTHETIC}}",
            "hunt.oracle={positive: truth_class <= 2, rounds: 2, seeds: 3, num_examples: 2, "
            "strategies: [upper_bound, lanes, real, random]}",
        ),
        parts="partial/trial-*.json",
        least=2,
    ),
}  # fmt: skip

# Commands whose kills other tests repeat.
FURTHER = {
    "experts": KilledCommand(
        build=lambda plan: experts(plan, SILENT),
        kinds=CURATED,
        overrides=("experts.num_experts=3",),
        parts="partial/expert-*/state.npz",
        least=1,
    ),
    "distill": KilledCommand(
        build=lambda plan: distill(plan, SILENT),
        kinds=TRAINED,
        overrides=("resources.checkpoint_seconds=0",),
        parts="partial/state.safetensors",
        least=1,
    ),
    "generate": KilledCommand(
        build=lambda plan: generate(plan, SILENT),
        kinds=CURATED,
        overrides=(
            "generate.model.network={channels: [8, 16], layers: 1, patch: 2, attention: 1, block: attention_gate}",
            "generate.training={steps: 60, batch_size: 8, shards: 1, warmup: 5, ema_decay: 0.9}",
            "generate.sampling={steps: 4}", "resources.checkpoint_seconds=0",
        ),
        parts="partial/state.safetensors",
        least=1,
    ),
}  # fmt: skip


@pytest.fixture
def env() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="rd-kc-", ignore_cleanup_errors=True) as ray_folder:
        yield tools.environment(Path(ray_folder))


@contextmanager
def no_part_written_again(case: KilledCommand, folder: Path, before: dict[str, int]) -> Iterator[None]:
    """Fail if a finished part is written again while the body runs."""
    done = threading.Event()

    def watch() -> set[str]:
        again = set[str]()
        while not done.wait(0.005):
            now = case.finished(folder)
            again |= {part for part in before.keys() & now.keys() if now[part] != before[part]}
        return again

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(watch)
        try:
            yield
        finally:
            done.set()
        assert not watcher.result(), "finished parts were computed again"


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "again"), [*((name, "in this process") for name in COMMANDS), ("predict", "by command")]
)
def test_killed_command_resumes(
    name: str,
    again: str,
    path_of: Callable[[str], str],
    tmp_path: Path,
    env: dict[str, str],
    request: pytest.FixtureRequest,
) -> None:
    """A second Ray takes seconds to start, so one test alone resumes by command."""
    case = COMMANDS[name]
    killed = Killed(case, name, path_of, tmp_path, env, request)
    before = case.finished(killed.folder)
    assert len(before) >= case.least
    with no_part_written_again(case, killed.folder, before):
        if again == "by command":
            with closing(tools.typed(tmp_path, env, *killed.words)) as second:
                assert second.wait() == 0, second.log[-4000:]
                assert second.answer == str(killed.folder)
        else:
            with (
                killing(case.worker, lambda: len(case.finished(killed.folder)) > len(before))
                if case.worker
                else nullcontext()
            ):
                killed.build()
    assert killed.content == killed.expected
    assert not (killed.folder / "partial").exists()


@pytest.mark.long
@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("name", [*COMMANDS, *FURTHER])
def test_damaged_files_of_a_killed_command_are_made_again(
    name: str,
    share: float,
    path_of: Callable[[str], str],
    tmp_path: Path,
    env: dict[str, str],
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A disk flips a bit in the middle of some files, or of all."""
    killed = Killed((COMMANDS | FURTHER)[name], name, path_of, tmp_path, env, request)
    random = Random(name)
    for path in sorted(killed.folder.rglob("*")):
        if path.is_file() and path.stat().st_size and random.random() < share:
            path.write_bytes(flipped(path.read_bytes(), path.stat().st_size // 2, random.randrange(8)))
    killed.build()
    assert killed.content == killed.expected
    in_worker = name == "generate"  # its log is that of the worker
    assert "is damaged and is made again" in caplog.text or share < 1 or in_worker


class Killed:
    """A command that was killed in the middle, and the same one that was not."""

    def __init__(
        self,
        case: KilledCommand,
        name: str,
        path_of: Callable[[str], str],
        tmp_path: Path,
        env: dict[str, str],
        request: pytest.FixtureRequest,
    ) -> None:
        def fill(word: str) -> str:
            return re.sub("|".join(SETS), lambda match: path_of(match[0]), word)

        self._case = case
        root: Path = request.getfixturevalue(case.root)
        calm, killed = (copy_of(root, tmp_path / folder, *case.kinds) for folder in ("calm", "killed"))
        overrides = [*map(fill, case.overrides), "resources.workers=1", "tracking.enabled=false"]
        expected = case.build(Plan(tiny(calm, *overrides)))
        self.expected: str = expected.manifest.content
        self._plan = Plan(tiny(killed, *overrides))
        self.folder = killed / "tiny" / Path(expected.folder.uri).name
        self.words = (name.partition("-")[0], str(tools.TINY), f"output={killed}", *overrides)
        with closing(tools.typed(tmp_path, env, *self.words)) as first:
            first.wait_until(f"{case.least} parts are finished", lambda: case.is_under_way(self.folder))
            first.kill()
            assert first.process.returncode == -signal.SIGKILL, "the command had ended before it was killed"
        with pytest.raises(ArtifactMissing):
            open_artifact(self.folder)

    def build(self) -> None:
        """Resume the command in this process."""
        self._case.build(self._plan)

    @property
    def content(self) -> str:
        return str(json.loads((self.folder / "manifest.json").read_text())["content"])
