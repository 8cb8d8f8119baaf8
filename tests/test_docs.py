"""What README and docs say is true: links lead somewhere, commands parse and plan, config headers name runs that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
COMMAND = re.compile(r"^(?:\$ )?(raydistill (?:simulate|curate|experts|distill|evaluate|tune|run|demo)\b[^#\n]*)", re.M)
INLINE = re.compile(r"`(raydistill (?:simulate|curate|experts|distill|evaluate|tune|run|demo)\b[^`\n]*)`")
PLACEHOLDER = re.compile(r"\b(CONFIG|PATH|FOLDER|FILE)\b|…|\.\.\.|my\.yaml")


def _commands() -> list[str]:
    # docs/errors.md is left out: its commands fail on purpose, and tests/e2e/test_bad_inputs.py runs every one of them.
    texts = [page.read_text() for page in PAGES if page.name != "errors.md"] + [
        re.sub(r"^# ?", "", path.read_text(), flags=re.M) for path in (ROOT / "configs").glob("*.yaml")
    ]
    found = {m.strip() for text in texts for pattern in (COMMAND, INLINE) for m in pattern.findall(text)}
    found |= {m.strip() for text in texts for m in re.findall(r"RAYDISTILL_DATA=FOLDER (raydistill [^#\n]*)", text)}
    return sorted(command for command in found if not PLACEHOLDER.search(command))


def test_there_are_commands_to_check() -> None:
    assert len(_commands()) >= 5


@pytest.mark.parametrize("command", _commands())
def test_commands_of_the_docs_plan(command: str, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raydistill.cli import app

    monkeypatch.setenv("RAYDISTILL_DATA", str(data_root))
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, [*command.split()[1:], "--dry-run"])
    assert result.exit_code == 0, f"{command}: {result.output}"
    assert '"artifacts"' in result.output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)\)", page.read_text())
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_the_docs_exist(page: Path) -> None:
    named = set(
        re.findall(r"`((?:configs|tests|benchmarks|docs|raydistill|jobs)/[\w/.-]+\.(?:py|yaml|md))`", page.read_text())
    )
    assert not [name for name in named if not (ROOT / name).exists()]
