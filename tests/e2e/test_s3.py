"""A whole run whose survey, artifacts and memory lie in a bucket of a real S3-compatible server, which may not answer for a while."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e import tools
from tests.e2e.bucket import RUNS, contents, refusing_server, s3_server, stored

pytestmark = pytest.mark.timeout(900)


def run(folder: Path, env: dict[str, str], *words: str) -> tools.Command:
    cached = {**env, "RAYDISTILL_CACHE": str(folder / "cache")}
    return tools.typed(folder, cached, "run", str(tools.TINY), f"output={RUNS}", *words)


@pytest.mark.long
def test_a_run_in_a_bucket_has_the_digests_of_one_on_a_disk(
    undisturbed: Path, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although nobody answers for some seconds in the middle of it, and later every request is asked to come again."""
    with s3_server(tmp_path / "s3", monkeypatch) as (client, gate):
        command = run(tmp_path, {**env, **client})
        command.wait_until("experts train", lambda: bool(stored("/state.npz")))
        gate.shut()
        time.sleep(8)
        gate.open()
        command.wait_until("distilling", lambda: bool(stored("partial/state.safetensors")))
        gate.ask_for_less()
        time.sleep(5)
        gate.open()
        assert gate.asked_for_less > 0
        assert command.wait() == 0, command.said[-4000:]
        assert command.answer.startswith(f"{RUNS}/tiny/evaluation-")
        assert "tracking is off" in command.said, "SQLite needs a disk"
        assert contents() == tools.contents(undisturbed)
        assert not stored("/partial/")


def test_a_bucket_that_is_not_there_is_said(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(tmp_path / "s3", monkeypatch) as (client, _):
        sentence = refusal(run(tmp_path, {**env, **client}, "output=s3://nobody-made-it/runs"))
    assert "the storage refused" in sentence
    assert "check its name and that you may read and write there" in sentence


def test_a_bucket_to_which_one_has_no_right_is_said(env: dict[str, str], tmp_path: Path) -> None:
    with refusing_server() as client:
        sentence = refusal(run(tmp_path, {**env, **client}))
    assert "the storage refused" in sentence
    assert "check its name and that you may read and write there" in sentence
    assert "Access Denied" in sentence or "Forbidden" in sentence


def refusal(command: tools.Command) -> str:
    """What a command says that ends with the exit code of storage, soon."""
    assert command.wait(120) == 3, command.said[-4000:]
    return command.sentence


@pytest.mark.long
def test_a_store_that_stays_away_ends_the_run_with_a_sentence(
    undisturbed: Path, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(tmp_path / "s3", monkeypatch) as (client, gate):
        impatient = {**env, **client, "AWS_MAX_ATTEMPTS": "2"}
        for under_way in ("survey-", "/state.npz", "partial/state.safetensors"):
            command = run(tmp_path, impatient)
            command.wait_until(under_way, lambda seen=under_way: bool(stored(seen)))
            gate.shut()
            code = command.wait(120)
            gate.open()
            assert code == 3, command.said[-4000:]
            assert "the storage did not answer" in command.sentence
            assert "Traceback" not in command.said
        command = run(tmp_path, impatient)
        assert command.wait() == 0, command.said[-4000:]
        assert contents() == tools.contents(undisturbed)
