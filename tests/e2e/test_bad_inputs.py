"""Give bad inputs to the real command line: one error message, and no traceback.

Each input has an exit code. The inputs are the tables in `bad_*.py`.
`python -m tests.e2e.test_bad_inputs` writes it to dev/bad-inputs.md, and the exit codes to
docs/errors.md.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer.main
from PIL import Image
from typer.testing import CliRunner

from raydistill import __version__, cli
from raydistill.cli import base
from raydistill.errors import ArtifactCorrupt
from tests.e2e.bad_analyses import ANALYSIS_CONFIG_ROWS, ANALYSIS_RUN_ROWS
from tests.e2e.bad_downloads import DOWNLOAD_ROWS
from tests.e2e.bad_inputs import CONFIG_ROWS, FILES, PROCESS_ROWS, RUN_ROWS, Row
from tests.e2e.bad_pictures import PICTURE_ROWS
from tests.e2e.bad_surveys import SURVEY_ROWS
from tests.e2e.bad_synthetics import SYNTHETIC_CONFIG_ROWS, SYNTHETIC_RUN_ROWS
from tests.private_ray import private_ray, training_here

ROOT = Path(__file__).parents[2]
DOCUMENT, TABLE = ROOT / "docs" / "errors.md", ROOT / "dev" / "bad-inputs.md"

# ---- the table of bad inputs ----


def fill(root: Path) -> None:
    """Write the files and pictures of every command."""
    for name, text in FILES.items():
        (root / name).write_text(text)
    (root / "pictures").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (60, 32, 32, 3), dtype=np.uint8)
    for n, pixels in enumerate(noise):
        Image.fromarray(pixels).save(root / "pictures" / f"{n}.png")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    if (tmp_path / "full").is_mount():
        subprocess.run(["umount", "--lazy", str(tmp_path / "full")], check=True)


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """Start a private Ray for the rows that need one, unless another one is running."""
    import ray

    if ray.is_initialized():
        yield
        return
    with private_ray(object_store_mb=80):
        yield


@pytest.fixture(scope="module")
def prepared(ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny run up to its distilled set. Do not write to it."""
    root = tmp_path_factory.mktemp("prepared")
    fill(root)
    with pytest.MonkeyPatch.context() as patch, training_here():
        patch.chdir(root)
        for stage in ("simulate", "curate", "experts", "distill"):
            code, stderr, stdout = call([stage, "tiny.yaml"])
            assert code == 0, stderr
            assert Path(stdout.strip()).is_dir()
    return root


def call(arguments: list[str], process: bool = False, shell: str = "") -> tuple[int, str, str]:
    """Run `raydistill`, after `shell`; return (exit code, stderr, stdout)."""
    if process or shell:
        command = [sys.executable, "-m", "raydistill.cli", *arguments]
        if shell:
            command = ["bash", "-ec", f'{shell}; exec "$@"', "bash", *command]
        if "mount" in shell:
            if os.geteuid():
                pytest.skip("needs the right to mount a small disk")
            command = ["unshare", "--mount", *command]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stderr, done.stdout
    result = CliRunner().invoke(cli.app, arguments)
    return result.exit_code, result.stderr, result.stdout


def plain(text: str, root: Path) -> str:
    """Return the text without folder, digests, number of CPUs and shipped configs.

    These differ between machines.
    """
    text = re.sub(r"-[0-9a-f]{12}\b", "-…", text.replace(f"{root}/", ""))
    text = re.sub(r"has more than \d+ and \d+", "has more than 2 and 0", text)
    return re.sub("shipped configs are: (.*, )?demo, .*", "shipped configs are: demo, …", text)


def check(row: Row, root: Path) -> None:
    for name, text in row.files.items():
        (root / name).write_text(text)
    if row.prepare:
        row.prepare(root)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in row.env.items():
            patch.setenv(name, value)
        code, stderr, stdout = call(shlex.split(row.command), row.process, row.shell)
    reported = [line for line in stderr.splitlines() if line.startswith("raydistill: ")]
    assert "Traceback" not in stderr
    assert [plain(line, root) for line in reported] == [f"raydistill: {row.sentence}"], stderr
    assert stderr.endswith(f"{reported[0]}\n"), "the error message must be the last line"
    assert code == row.code
    assert stdout == "", "stdout carries the path of an artifact or nothing"


def by_name(rows: list[Row]) -> pytest.MarkDecorator:
    marked = [pytest.param(row, id=row.what.replace(" ", "-"), marks=[pytest.mark.long] * row.long) for row in rows]
    return pytest.mark.parametrize("row", marked)


@by_name(
    [
        *CONFIG_ROWS,
        *ANALYSIS_CONFIG_ROWS,
        *SYNTHETIC_CONFIG_ROWS,
        *SURVEY_ROWS,
        *PICTURE_ROWS,
        *DOWNLOAD_ROWS,
        *PROCESS_ROWS,
    ]
)
def test_bad_input_is_rejected_before_ray_starts(row: Row, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("stages", "cluster"):  # the second is imported by the first
        monkeypatch.setattr(f"raydistill.runtime.{module}.ray_cluster", _no_cluster)
    check(row, here)
    assert not (here / "runs").exists(), "a rejected input left files"


def _no_cluster(*_: object) -> None:
    raise AssertionError("a cluster was started")


@by_name([*RUN_ROWS, *ANALYSIS_RUN_ROWS, *SYNTHETIC_RUN_ROWS])
def test_bad_input_is_rejected_when_it_is_read(row: Row, prepared: Path, here: Path) -> None:
    shutil.copytree(prepared / "runs", here / "runs")
    check(row, here)


# ---- unexpected errors ----


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "stopped; run the same command again to resume"),
        (PermissionError(13, "Permission denied", "/x"), 3, "/x: permission denied; check the path, its permissions and the disk"),
    ],
)  # fmt: skip
def test_interrupts_and_system_errors_have_a_message(
    error: BaseException, code: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("raydistill.config.load", fail)
    assert call(["run", "demo"]) == (code, f"raydistill: {sentence}\n", "")


def test_error_wrapped_by_ray_is_reported_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise a subclass of Ray's error and of raydistill's, as Ray does.

    Its text is the traceback of the worker.
    """
    import ray.exceptions

    raised = ArtifactCorrupt("it is damaged", "there", "fix it")
    wrapped = ray.exceptions.RayTaskError("work", "Traceback (most recent call last): …", raised).as_instanceof_cause()
    assert isinstance(wrapped, ArtifactCorrupt)

    def fail(*_: object) -> None:
        raise wrapped

    monkeypatch.setattr("raydistill.config.load", fail)
    assert call(["run", "demo"]) == (3, "raydistill: there: it is damaged; fix it\n", "")


def test_traceback_of_a_bug_is_written_to_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("raydistill.config.load", lambda *_: 1 / 0)
    code, stderr, stdout = call(["run", "demo"])
    (log,) = tmp_path.glob("raydistill-*.log")
    sentence = (
        "an error of raydistill itself (ZeroDivisionError: division by zero); please report it with the traceback in"
    )
    assert (code, stderr, stdout) == (1, f"raydistill: {sentence} {log}\n", "")
    assert log.read_text().rstrip().endswith("ZeroDivisionError: division by zero")


# ---- help ----


COMMANDS = tuple(str(name) for name in typer.main.get_group(cli.app).commands)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_lists_the_exit_codes_and_is_not_truncated(command: str) -> None:
    code, stderr, stdout = call([*command.split(), "--help"])
    assert (code, stderr) == (0, "")
    for number in (0, 1, 2, 3, 4, 5, 130):
        assert re.search(rf"^ *{number}  +\w", stdout, re.MULTILINE)
    assert "..." not in stdout.replace("[KEY=VALUE]...", "").replace("[ARGS]...", "").replace("]...", "")


def test_version_is_printed() -> None:
    assert call(["--version"]) == (0, "", f"raydistill {__version__}\n")


def test_unknown_command_has_the_exit_code_of_a_wrong_command_line() -> None:
    code, stderr, _ = call(["distil"])
    assert code == 2
    assert "No such command 'distil'" in stderr


def test_demo_accepts_overrides() -> None:
    code, _, stdout = call(["demo", "--dry-run", "--json", "seed=7"])
    assert code == 0
    assert '"seed": 7' in stdout


@pytest.mark.parametrize(
    ("command", "last"),
    [("curate", "curated"), ("experts", "trajectories"), ("distill", "distilled"), ("run", "evaluation"),
     ("generate", "generator"), ("sample", "synthetic"), ("audit", "audit"), ("augment", "augmentation"),
     ("detect", "detection"), ("run --to sample", "synthetic")],
)  # fmt: skip
def test_dry_run_lists_what_the_command_needs_and_makes(command: str, last: str) -> None:
    stage, *options = command.split()
    code, stderr, stdout = call([stage, "demo_diffusion", *options, "--dry-run", "--json"])
    assert code == 0, stderr
    kinds = [artifact["kind"] for artifact in json.loads(stdout)["artifacts"]]
    assert kinds[:2] == ["survey", "curated"]
    assert kinds[-1] == last


def test_closed_stdout_is_not_an_error() -> None:
    """`raydistill demo --dry-run | head -1` closes stdout early."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "raydistill.cli", "demo", "--dry-run"]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_help_imports_nothing_heavy() -> None:
    show_help = "import sys; from typer.testing import CliRunner; from raydistill.cli import app; CliRunner().invoke(app, ['--help'])"
    script = f"{show_help}; print(*{{'torch', 'ray', 'mlflow', 'pyarrow'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "\n"


# ---- docs/errors.md and dev/bad-inputs.md ----

HEAD = """# Errors

A failed command prints one sentence on stderr, `raydistill: where: what; fix`, and sets the exit code. Stdout stays
empty, so `path=$(raydistill curate CONFIG)` is safe. A traceback is written for bugs in raydistill only, to the file
that the sentence names.

| exit code | meaning |
|---|---|
"""


TAIL = """
The sentence says what is wrong, where, and what to do. `dev/bad-inputs.md` has some three hundred bad
inputs, each with its command and its sentence; a test runs every one.
"""


def document() -> str:
    """Return docs/errors.md, from the help's exit codes."""
    codes = re.findall(r"^ +(\d+) +(.*)$", base.EXIT_CODES, re.MULTILINE)
    return HEAD + "".join(f"| {code} | {meaning} |\n" for code, meaning in codes) + TAIL


def table() -> str:
    """Return dev/bad-inputs.md."""
    parts = ["# Bad inputs\n\nA test runs every line. The page is generated from `tests/e2e/bad_*.py`."]
    for title, rows in (
        ("Config and command line", [*CONFIG_ROWS, *ANALYSIS_CONFIG_ROWS, *SYNTHETIC_CONFIG_ROWS]),
        ("Vote table and pictures", [*SURVEY_ROWS, *PICTURE_ROWS]),
        ("Downloads", DOWNLOAD_ROWS),
        ("Artifacts, training, cluster, disk", [*RUN_ROWS, *ANALYSIS_RUN_ROWS, *SYNTHETIC_RUN_ROWS, *PROCESS_ROWS]),
    ):
        lines = [f"| {row.what} | `raydistill {row.command}` | {row.code} | {_escape(row.sentence)} |" for row in rows]
        parts.append(
            "\n".join([f"## {title}", "", "| given | command | exit | sentence |", "|---|---|---|---|", *lines])
        )
    return "\n\n".join(parts) + "\n"


def _escape(sentence: str) -> str:
    """Keep Markdown from reading a word in angle brackets as HTML."""
    return sentence.replace("<", "\\<")


def test_the_document_is_up_to_date() -> None:
    assert (DOCUMENT.read_text(), TABLE.read_text()) == (document(), table()), (
        "run: python -m tests.e2e.test_bad_inputs"
    )


if __name__ == "__main__":
    DOCUMENT.write_text(document())
    TABLE.write_text(table())
