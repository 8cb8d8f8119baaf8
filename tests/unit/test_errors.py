"""Errors have one sentence and an exit code, and survive pickling."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from raydistill import errors
from raydistill.errors import CatalogError, RaydistillError, nearest


def subclasses(cls: type[RaydistillError]) -> list[type[RaydistillError]]:
    """Return the classes of `raydistill.errors`; other modules test their own."""
    children = [child for child in cls.__subclasses__() if child.__module__ == errors.__name__]
    return [cls, *(descendant for child in children for descendant in subclasses(child))]


EVERY = pytest.mark.parametrize("cls", subclasses(RaydistillError), ids=lambda cls: cls.__name__)


@EVERY
@pytest.mark.parametrize("arguments", [("what",), ("what", "where"), ("what", "where", "fix")])
def test_errors_survive_pickling(cls: type[RaydistillError], arguments: tuple[str, ...]) -> None:
    error = cls(*arguments)
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(back) is cls
        assert (back.what, back.where, back.fix) == (error.what, error.where, error.fix)
        assert str(back) == str(error)
        assert back.exit_code == error.exit_code


@EVERY
def test_args_are_the_parameters_of_init(cls: type[RaydistillError]) -> None:
    assert cls("a", "b", "c").args == ("a", "b", "c")


def test_message_with_a_name_of_several_lines_is_one_line() -> None:
    assert str(CatalogError("has no column 'a\nb'", "t.csv", "known are: c\r\nd")) == (
        "t.csv: has no column 'a b'; known are: c d"
    )


def test_message_hides_the_password_of_an_address() -> None:
    assert str(CatalogError("refused by http://:pw@[::1]:80/", "https://me:a@c@mirror.org/x?y=a:b@c", "wait")) == (
        "https://…@mirror.org/x?y=a:b@c: refused by http://…@[::1]:80/; wait"
    )


def test_message_has_where_what_and_fix() -> None:
    assert str(RaydistillError("it broke", "here", "fix it")) == "here: it broke; fix it"
    assert str(RaydistillError("it broke", fix="fix it")) == "it broke; fix it"
    assert str(RaydistillError("it broke", "here")) == "here: it broke"
    assert str(RaydistillError("it broke")) == "it broke"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ConfigError", 2), ("CatalogError", 3), ("ArtifactError", 3), ("ArtifactMissing", 3), ("ArtifactIncompatible", 3),
        ("ArtifactCorrupt", 3), ("DownloadError", 3), ("DivergenceError", 4), ("ClusterError", 5),
    ],
)  # fmt: skip
def test_exit_codes_match_the_documentation(name: str, code: int) -> None:
    assert getattr(errors, name).exit_code == code


def test_nearest_names_the_most_similar_word() -> None:
    assert nearest("depht", ["width", "depth"]) == "did you mean 'depth'?"


def test_nearest_lists_known_words_if_none_is_similar() -> None:
    assert nearest("zzz", ["width", "depth"]) == "known are: width, depth"
    listed = nearest("zzz", [f"name{i}" for i in range(40)])
    assert listed.endswith("name11, …")


NEEDS = """
import resource, sys, threading
resource.setrlimit(resource.{limit}, ({most}, {most}))
from raydistill.errors import find_known_error
from raydistill.storage import Folder
try:
    {body}
except BaseException as error:
    print(type(find_known_error(error)).__name__, find_known_error(error), sep=": ")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of other systems differ")
@pytest.mark.parametrize(
    ("limit", "most", "body", "sentence"),
    [
        ("RLIMIT_FSIZE", 1000, "Folder('out').write('a', bytes(2000))",
         "ClusterError: this machine: a file would be larger than the limit of its size; raise the limit (ulimit -f)"),
        ("RLIMIT_NOFILE", 50, "files = [open('/dev/null') for _ in range(100)]",
         "ClusterError: /dev/null: too many files are open; raise the limit (ulimit -n)"),
        ("RLIMIT_AS", 2**30, "bytes(2**31)",
         "ClusterError: this machine: memory is short; end other programs, or raise the limit (ulimit -v)"),
        ("RLIMIT_AS", 2**30, "threading.stack_size(2**30), threading.Thread(target=print).start()",
         "ClusterError: this machine: no more processes or threads may start; raise the limit (ulimit -u)"),
        ("RLIMIT_CORE", 0, "open('/dev/full', 'w', buffering=1).write('text\\n')",
         "ArtifactError: this machine: the disk is full; free some space"),
    ],
    ids=["file size", "open files", "memory", "threads", "disk"],
)  # fmt: skip
def test_lack_of_the_machine_is_named(limit: str, most: int, body: str, sentence: str, tmp_path: Path) -> None:
    program = NEEDS.format(limit=limit, most=most, body=body)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"{sentence} and run the same command again; it resumes\n", done.stderr
