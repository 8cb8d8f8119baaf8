"""README and docs: links resolve, commands plan, Python runs, and the site builds.

A page's Python blocks run in order, in one namespace and in a process of their own. Pages that
need artifacts start in a folder with a small run (`PREPARE`). `CHECK` asserts what a page says of
its figures.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from typer.testing import CliRunner

import raydistill
from raydistill import distillation, table

ROOT = Path(__file__).parents[1]
WRITTEN = [page for page in (ROOT / "docs").rglob("*.md") if "generated" not in page.parts]  # `make docs` makes those
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *WRITTEN])
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
TIMEOUT = 900  # seconds; README takes three minutes on two cores
NOT_RUN = {"compare.md": "needs the package ddranking, which is not a dependency"}
# Half a minute or more each; `make test` runs README on a finished run.
LONG = {
    "README.md", "tutorial.md", "analyse.md", "artifacts.md", "audit.md", "detect.md", "mlflow.md", "predict.md", "sample.md",
    "stable-diffusion.md",
}  # fmt: skip
STAGES = "|".join([*table.stages(), "run", "demo"])
COMMAND = re.compile(rf"^(?:\$ )?(raydistill (?:{STAGES})\b[^#\n]*)", re.M)
INLINE = re.compile(rf"`(raydistill (?:{STAGES})\b[^`\n]*)`")
PLACEHOLDER = re.compile(r"\b(CONFIG|TARGET|SET|PATH|FOLDER|FILE|WEIGHTS)\b|…|\.\.\.|my\.yaml")


def _commands() -> list[str]:
    texts = [page.read_text() for page in PAGES] + [
        re.sub(r"^# ?", "", path.read_text(), flags=re.M) for path in (ROOT / "configs").glob("*.yaml")
    ]
    texts = [text.replace("\\\n", "") for text in texts]  # lines that a backslash continues
    result = {m.strip() for text in texts for pattern in (COMMAND, INLINE) for m in pattern.findall(text)}
    result |= {m.strip() for text in texts for m in re.findall(r"RAYDISTILL_DATA=FOLDER (raydistill [^#\n]*)", text)}
    result |= {stage.example for stage in table.stages().values()}
    result = {command for command in result if len(command.split()) > 2 or command == "raydistill demo"}
    return sorted(command for command in result if not PLACEHOLDER.search(command))


def test_there_are_commands_to_check() -> None:
    assert len(_commands()) >= 5


@pytest.mark.parametrize("command", _commands())
def test_commands_of_the_docs_plan(command: str, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raydistill.cli import app

    monkeypatch.setenv("RAYDISTILL_DATA", str(data_root))
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, [*shlex.split(command)[1:], "--dry-run", "--json"])
    assert result.exit_code == 0, f"{command}: {result.output}"
    assert '"artifacts"' in result.output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    if page.name in ("changelog.md", "contributing.md"):
        pytest.skip("includes a page of the root folder, whose links are checked there")
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = set(re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", page.read_text(), flags=re.M))
    assert {a or b for a, b in named} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_named_in_the_docs_exist(page: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text())
    assert not [name for file, name in named if f"def {name}(" not in (ROOT / file).read_text()]


def test_every_format_of_what_can_be_read_names_its_test() -> None:
    rows = re.findall(r"^\|(?!-)(.*)\|$", (ROOT / "docs/how-to/formats.md").read_text(), flags=re.M)
    formats = [row for row in rows if not row.strip().endswith("| test")]
    assert len(formats) >= 25
    assert not [row for row in formats if not re.fullmatch(r"`tests/[\w/]+\.py::\w+`", row.split("|")[-1].strip())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_the_docs_exist(page: Path) -> None:
    named = set(
        re.findall(
            r"`((?:configs|tests|benchmarks|dev|docs|raydistill|jobs|examples)/[\w/.-]+\.(?:py|yaml|md))`",
            page.read_text(),
        )
    )
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_paper_that_the_code_names_is_in_the_citation_file() -> None:
    files = [*(ROOT / "raydistill").rglob("*.py"), *(ROOT / "configs").rglob("*.yaml")]
    named = {number for file in files for number in re.findall(r"arXiv:(\d{4}\.\d{4,5})", file.read_text())}
    assert len(named) > 50
    assert sorted(named - set(re.findall(r"arXiv:([\d.]+)", (ROOT / "CITATION.cff").read_text()))) == []


def test_symbols_named_in_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`(\w+)(?:\.\w+)?` in `([\w/]+\.py)`", text)
    assert len(named) > 8
    missing = [f"{name} in {file}" for name, file in named if not re.search(rf"\b{name}\b", (ROOT / file).read_text())]
    assert not missing


def _pages_with_python() -> list[Path]:
    return [page for page in PAGES if BLOCK.search(page.read_text())]


@pytest.mark.parametrize("page", _pages_with_python(), ids=lambda page: page.name)
def test_python_blocks_compile(page: Path) -> None:
    for block in BLOCK.findall(page.read_text()):
        compile(block, str(page), "exec")


def test_api_page_lists_the_public_names() -> None:
    page = (ROOT / "docs/api.rst").read_text()
    listed = re.findall(r"^   (\w+)$", page, flags=re.M)
    aliases = {"LossFunction", "Schedule"}  # of types, which have no docstring
    assert set(listed) == (set(raydistill.__all__) | set(dir(distillation))) - aliases


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the pages run `demo`.

    The first page to run it leaves its artifacts to the others.
    """
    return tmp_path_factory.mktemp("demo")


def _runs() -> list[Any]:
    pages = [page for page in _pages_with_python() if page.name not in NOT_RUN]
    return [pytest.param(page, id=page.name, marks=[pytest.mark.long] * (page.name in LONG)) for page in pages]


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the blocks of README ran on a small survey."""
    folder = tmp_path_factory.mktemp("small")
    run_blocks(ROOT / "README.md", folder, SMALL)
    return folder


@pytest.fixture
def finished_run(tiny_run: Path, tmp_path: Path) -> Path:
    """Return a folder with all artifacts of the tiny config, which a page opens."""
    shutil.copytree(tiny_run / "runs" / "tiny", tmp_path / "runs" / "tiny")
    return tmp_path


@pytest.mark.slow
def test_python_blocks_of_readme_open_a_finished_run(finished_run: Path) -> None:
    run_blocks(ROOT / "README.md", finished_run, FINISHED)
    assert (finished_run / "prototypes.fits").stat().st_size > 5 * 3 * 16 * 16


@pytest.mark.slow
@pytest.mark.parametrize("page", _runs())
def test_python_blocks_run(page: Path, tmp_path: Path, demo_folder: Path, request: pytest.FixtureRequest) -> None:
    if page.name in USE_SMALL_RUN:
        shutil.copytree(request.getfixturevalue("small_run"), tmp_path, dirs_exist_ok=True)
    run_blocks(page, demo_folder if page.name in RUN_DEMO else tmp_path)


def run_blocks(page: Path, folder: Path, before: str = "") -> None:
    """Run the blocks of a page in a process of their own, in `folder`."""
    blocks = "".join(BLOCK.findall(page.read_text()))
    program = before + PREPARE.get(page.name, "") + blocks + CHECK.get(page.name, "")
    (folder / "page.py").write_text(MAIN.format(program=program, page=str(page)))
    environment = os.environ | {"MPLBACKEND": "agg", "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": ""}
    ended = subprocess.run(
        [sys.executable, "page.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.mark.slow
def test_notebook_runs_and_shows_pictures(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FINISHED))
    NotebookClient(notebook, timeout=TIMEOUT, resources={"metadata": {"path": str(finished_run)}}).execute()
    shown = [
        data for cell in notebook.cells if cell["cell_type"] == "code" for data in cell["outputs"] if "data" in data
    ]
    pages = "".join(data["data"].get("text/html", "") for data in shown)
    assert "<td>experts.num_experts</td>" in pages
    assert pages.count("<img ") == 3, "galaxies, distilled images, and accuracies"
    assert "image/png" in shown[-1]["data"]


@pytest.mark.slow
def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Build the site without a warning.

    Broken references, malformed docstrings and pages outside of the table of contents are warnings.
    """
    command = [sys.executable, "-m", "sphinx", "-E", "-W", "--keep-going", "-q", "-b", "html", "docs", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    pages = [page.read_text() for page in tmp_path.rglob("*.html")]
    assert len(pages) > 20
    loaded = re.compile(r"""<(?:script|link|img)[^>]+(?:src|href)=["']https?://""")
    assert not any(loaded.search(page) for page in pages), "a page loads a file from the internet"


MAIN = """
if __name__ == "__main__":
    exec(compile({program!r}, {page!r}, "exec"), {{"__name__": "page"}})
"""

# Every config is the tiny one, whose run is finished.
FINISHED = f"""
import raydistill as rd

load = rd.load_config
rd.load_config = lambda name, *overrides: load({str(ROOT / "tests" / "configs" / "tiny.yaml")!r}, "output=runs")
"""

# The blocks of a page run as they are, on a config that takes seconds.
FEW = (
    "survey.num_galaxies=300", "experts.num_experts=1", "experts.training.epochs=3",
    "distill.schedule.max_start_epoch=1", "distill.iterations=2", "distill.student_steps=2",
    "distill.validation_epochs=2", "evaluate.num_networks=1", "evaluate.full_data_networks=1",
    "evaluate.full_data.epochs=1", "evaluate.protocols.paper.training.epochs=2",
)  # fmt: skip
SMALL = f"""
import raydistill as rd
from tests.private_ray import training_here

here = training_here()
here.__enter__()

load = rd.load_config
rd.load_config = lambda name, *overrides: load(name, *overrides, *{FEW})
"""
# One Ray for the preparation of a page and for its blocks, which read what README wrote.
SMALL_RUN = f"""
import atexit
import contextlib
import raydistill as rd
from tests.private_ray import private_ray

stack = contextlib.ExitStack()
atexit.register(stack.close)
stack.enter_context(private_ray(100))
few = {FEW}
"""

# Whitened images: docs/artifacts.md undoes the whitening, too.
ARTIFACTS = """
import glob, shutil
import torch
import raydistill as rd
from tests.private_ray import private_ray

config = rd.load_config(
    "demo", "survey.num_galaxies=300", "curate.whitening=zca", "curate.image_size=16", "experts.num_experts=1",
    "experts.training.epochs=3", "distill.iterations=2", "distill.schedule.max_start_epoch=1",
)
with private_ray(100):
    survey, _, _, distilled = rd.simulate(config), rd.curate(config), rd.experts(config), rd.distill(config)
for name in ("images.safetensors", "whitening.safetensors"):
    shutil.copy(f"{distilled.folder.uri}/{name}", name)
shutil.copy(glob.glob(f"{survey.folder.uri}/images/*.jpg")[0], "galaxy.jpg")
own_pictures = torch.rand(2, 3, 16, 16)
"""
PREDICT = (
    SMALL_RUN
    + """
config = rd.load_config("demo", *few)
"""
)
# Random weights of the same layout, and pictures of their size.
STABLE_DIFFUSION = """
from pathlib import Path
import torch
from tests.unit.diffusion.tiny_stable_diffusion import pixels, write_checkpoint

write_checkpoint(Path("stable-diffusion-v1-5"))
images, steps = pixels(4), 2
"""
ANALYSE = (
    SMALL_RUN
    + """
analyse = rd.analyse
rd.analyse = lambda name: analyse(name, *few, "analyse.permutations=99", "analyse.max_galaxies=3")
"""
)
# Experts that are models of MLflow, in the database of README's run.
MLFLOW = (
    SMALL_RUN
    + """
import glob, os, shutil
import numpy as np
from PIL import Image

os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///runs/demo/mlflow.db"
rd.experts(rd.load_config("demo", *few, "experts.num_experts=2", "tracking.models=true"))
pictures = sorted(glob.glob("runs/demo/survey-*/images/*.jpg"))
for picture, name in zip(pictures, ("a.jpg", "b.jpg")):
    shutil.copy(picture, name)
images = np.stack([np.asarray(Image.open(name)) for name in ("a.jpg", "b.jpg")])
"""
)
# A generator with random weights.
AUDIT = (
    SMALL_RUN
    + """
from raydistill.pipeline.plan import Plan
from tests.unit.stages.sample_tools import write_generator

config = rd.load_config("demo", *few, "sample.num_images=90", "sample.sampling={steps: 2}")
write_generator(Plan(config))
rd.sample(config)
"""
)
# A generator of pixels, untrained.
GENERATOR = (
    SMALL_RUN
    + """
from raydistill.diffusion.network_options import UNet
from raydistill.diffusion.options import Model
from raydistill.pipeline.plan import Plan
from tests.unit.stages import sample_tools

config, sample_tools.MODEL = rd.load_config("demo", *few), Model(UNet(channels=(8, 16), patch=2))
sample_tools.write_generator(Plan(config), "class")
"""
)
# Galaxies of the simulator as a synthetic set, and few small fields.
DETECT = (
    SMALL_RUN
    + """
from raydistill.storage import Folder
from tests.unit.stages.detect_tools import write_synthetic

config = rd.load_config(
    "demo", *few, "detect.fields={side: 64, contrast: 8.81, min_area: 12}", "detect.train_fields=32",
    "detect.test_fields=16", "detect.max_frames=32", "detect.steps=20",
)
folder = "galaxies"
write_synthetic(Folder(folder), rd.curate(config))
rd.curate(config, "curate.crop_fraction=1", "curate.image_size=64")
"""
)
# A small curated set, a distilled one, predictions and two exported folders; no stage runs.
SHARE = """
import os

os.environ.update(HF_HOME=os.path.abspath("hub"), HF_HUB_OFFLINE="1")
import pyarrow as pa
from raydistill.exporting.export import export
from raydistill.stages.predict.blocks import SCHEMA
from raydistill.storage import Folder
from tests.unit.exporting.test_huggingface import distilled, many_galaxies
from tests.unit.stages.predict.test_predictions import committed

from PIL import Image

Image.linear_gradient("L").save("galaxy.jpg")
made = many_galaxies(Folder("runs/demo/curated-0"))
features = {"predicted_class": "Er", "probability": [0.5, 0.5], "logits": [-0.7, -0.7], "spread": [0.1, 0.1]}
rows = [
    {"object_id": one, "features": [n, label], **features} if n else {"object_id": one, "reason": "corrupt"}
    for n, (one, label) in enumerate(zip(made.load("train").object_ids, made.load("train").labels_N.tolist()))
]
committed(Folder("runs/demo/predictions-0"), pa.Table.from_pylist(rows, SCHEMA))
export(made, Folder("galaxies"), "huggingface")
export(distilled(Folder("runs/demo/distilled-0")), Folder("prototypes"), "huggingface")
"""
PREPARE = {
    "analyse.md": ANALYSE,
    "artifacts.md": ARTIFACTS,
    "audit.md": AUDIT,
    "sample.md": GENERATOR,
    "detect.md": DETECT,
    "mlflow.md": MLFLOW,
    "predict.md": PREDICT,
    "share.md": SHARE,
    "stable-diffusion.md": STABLE_DIFFUSION,
}
USE_SMALL_RUN = {"analyse.md", "mlflow.md", "audit.md", "detect.md", "predict.md", "sample.md"}
RUN_DEMO = {"README.md", "tutorial.md"}
# The tutorial prints figures of one run: their order holds on any processor.
# Embedding Atlas shows pictures of {bytes, path}, and numbers the rows of neighbours from 0.
CHECK = {
    "share.md": """
read = pd.read_parquet("atlas.parquet")
assert set(galaxies["object_id"]) - set(read["object_id"]) == {galaxies["object_id"][0]}  # its picture was rejected
assert read["image"][0]["bytes"] == galaxies.set_index("object_id")["image"][read["object_id"][0]]
assert np.isfinite(read[["x", "y"]]).all(axis=None)
for row, near in enumerate(read["neighbors"]):
    assert len(near["ids"]) == len(near["distances"]) == 10 and row not in near["ids"]
    expected = np.sort(np.linalg.norm(features - features[row], axis=1))[1:11]
    assert np.allclose(np.linalg.norm(features[near["ids"]] - features[row], axis=1), expected, atol=1e-3)
assert prototypes.num_rows == len(images) == 6 and splits["train"].num_rows == 60
""",
    "tutorial.md": """
accuracy = table.set_index("training_set")
lower_end = accuracy.loc["distilled", "balanced_accuracy"] - accuracy.loc["distilled", "balanced_accuracy_ci95"]
assert lower_end > max(accuracy.loc[["class_mean", "k_center", "random_real"], "balanced_accuracy"]), table
assert accuracy.loc["experts", "balanced_accuracy"] > accuracy.loc["distilled", "balanced_accuracy"], table
""",
}
