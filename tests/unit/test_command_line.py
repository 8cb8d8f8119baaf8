"""The help, the plan of a dry run, the shipped configs, and the end of a command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from raydistill import shipped, table
from raydistill.cli import app
from raydistill.cli.base import _complete_config, end
from raydistill.config import load
from raydistill.distillation.cost_model import forward_flops
from raydistill.learning.architectures import ConvNet
from raydistill.learning.networks import build_network
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.preview import as_text, network_size
from raydistill.pipeline.run import lineage
from raydistill.storage import Folder
from raydistill.text import WIDTH, text_table

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def call(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_group_an_example_and_a_page(name: str) -> None:
    command = COMMANDS[name]
    assert command.rich_help_panel in table.GROUPS
    example, page = command.epilog.split("\n\n")[:2]
    assert example.startswith(f"Example: raydistill {name}")
    path = page.removeprefix("Documentation: ").removesuffix(" in the source of raydistill")
    assert path.endswith(".md")
    assert (DOCS.parent / path).is_file()


def test_help_lists_each_command_below_its_group() -> None:
    _, text, _ = call("--help")
    order = [text.index(f"\n{group}:") for group in table.GROUPS]
    assert order == sorted(order)
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert "--install-completion" in text


def test_configs_are_completed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "demo_mine.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert _complete_config("demo") == ["demo", "demo_diffusion", "demo_hunt", "demo_similar", "demo_mine.yaml"]


def test_configs_are_listed_and_shown() -> None:
    _, text, _ = call("configs")
    lines = dict(line.split(maxsplit=1) for line in text.splitlines() if line)
    assert set(shipped.names()) | set(shipped.names("methods")) <= set(lines)
    assert lines["gz2_hart16"].startswith("Galaxy Zoo 2 as it was released: votes of Hart et al. 2016, a filename")
    for name in ("demo", "methods/datm"):
        path = shipped.find(name)
        assert path is not None
        assert call("configs", "--show", name)[1] == path.read_text()


# ---- a dry run ----


def test_plan_for_a_person_is_narrow_and_says_what_would_be_built(tmp_path: Path) -> None:
    plan = Plan(load("demo", [f"output={tmp_path}"]))
    assert plan.survey is not None
    plan.survey.commit()
    text = as_text(plan, lineage(plan.evaluation))
    assert max(map(len, text.splitlines()[1:])) <= WIDTH  # the first line has the path of the output
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert "exists" in rows["simulate"]
    assert all("to build" in rows[name] and "about" in rows[name] for name in ("curate", "experts", "evaluate"))
    assert "Together about" in text
    plan.distilled.folder.write("manifest.json", b"{}")  # its inputs were removed
    rows = {
        line.split()[0]: line for line in as_text(plan, lineage(plan.distilled)).splitlines() if line.startswith("  ")
    }
    assert "not needed" in rows["experts"]
    assert "exists" in rows["distill"]


def test_nothing_is_said_of_time_where_nothing_is_known(tmp_path: Path) -> None:
    plan = Plan(load("demo", [f"output={tmp_path}", "network={kind: vit}"]))
    rows = as_text(plan, lineage(plan.evaluation)).splitlines()
    assert next(line for line in rows if line.lstrip().startswith("experts")).rstrip().endswith("to build")
    assert "without experts, distill, evaluate" in " ".join(rows)
    plan = Plan(load("demo", [f"output={tmp_path}", "resources.gpus=1"]))
    assert "about" not in as_text(plan, lineage(plan.evaluation))


@pytest.mark.parametrize("network", [ConvNet(), ConvNet(depth=2, width=8, norm="none"), ConvNet(depth=4, width=48)])
@pytest.mark.parametrize("size", [32, 50])
def test_work_of_a_network_is_that_of_its_modules(network: ConvNet, size: int) -> None:
    built = build_network(network, 9, size)
    assert network_size(network, 9, size) == (forward_flops(built, 3, size), built.layout.num_parameters)


# ---- the end of a command ----


def test_next_commands_are_commands() -> None:
    following = [kind.then.split()[0] for kind in table.kinds().values() if kind.then]
    assert set(following) <= {*table.stages(), "run"}


def test_command_ends_with_what_it_made_and_the_next_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["demo", "output=my runs"]
    spec = Plan(load("demo", words[1:])).survey
    assert spec is not None
    spec.folder.write("catalog.csv", b"id\n")
    spec.commit()
    code, stdout, stderr = call("simulate", *words)
    assert (code, stdout) == (0, f"{spec.folder}\n")
    *_, made, after = stderr.splitlines()
    assert made == f"Votes: {spec.folder.shown}/catalog.csv"
    assert shlex.split(after) == ["Next:", "raydistill", "curate", *words]


def test_a_key_that_the_next_command_sets_is_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["demo_hunt", "hunt.labels=first.csv", "name=mine"]
    end(Plan(load("demo_hunt", words[1:])), table.kinds()["hunt_round"], Folder(str(tmp_path)), words)
    (after,) = capsys.readouterr().err.splitlines()
    assert after == "Next: raydistill hunt demo_hunt name=mine hunt.labels=labels.csv"
    words = ["/data/FOLDER/CONFIG.yaml"]
    end(Plan(load("demo")), table.kinds()["encoder"], Folder(str(tmp_path)), words)
    assert f"raydistill run {words[0]} --to predict" in capsys.readouterr().err


def test_wide_table_continues_below_beside_its_first_column() -> None:
    head = ["trained on", *(f"network-{n}" for n in range(12))]
    text = text_table("title", [head, ["distilled", *("0.733\n± 0.046" for _ in range(12))]])
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.count("trained on") == 3
    assert all(f"network-{n}" in text for n in range(12))
