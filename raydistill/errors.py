"""Define every error a user can meet, as one sentence: "where: what; fix".

The class of an error decides the exit code of the command line:

========================  =========  ================================================
error                     exit code  meaning
========================  =========  ================================================
`RaydistillError`         1          a bug in raydistill
`ConfigError`             2          the config or an override is wrong
`CatalogError`            3          the vote table or the images cannot be used
`ArtifactError`           3          an artifact is missing, incompatible or corrupt
`DownloadError`           3          a public file cannot be fetched, or is not the right one
`DivergenceError`         4          training or matching diverged
`ClusterError`            5          the cluster lacks resources, or workers died
`NotRepeated`             6          a published figure was not found again
========================  =========  ================================================

`args` equal the parameters of `__init__`. Otherwise an exception does not survive pickling on its
way back from a Ray worker.
"""

import errno
from collections.abc import Sequence

from raydistill.escaping import for_terminal


class RaydistillError(Exception):
    """Base class of all errors that raydistill raises on purpose.

    Parameters
    ----------
    what
        The problem, without a full stop.
    where
        The file, config key or stage.
    fix
        The next step for the user.

    Examples
    --------
    >>> str(RaydistillError("the file is empty", "votes.csv", "export it again"))
    'votes.csv: the file is empty; export it again'
    """

    exit_code = 1

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        sentence = f"{self.where}: {self.what}" if self.where else self.what
        sentence = f"{sentence}; {self.fix}" if self.fix else sentence
        return for_terminal(" ".join(sentence.splitlines()))  # a name from a damaged file may have several lines


class ConfigError(RaydistillError):
    """Report a wrong config file or override."""

    exit_code = 2


class CatalogError(RaydistillError):
    """Report a vote table or images that do not match the config."""

    exit_code = 3


class ArtifactError(RaydistillError):
    """Report an artifact that cannot be used."""

    exit_code = 3


class ArtifactMissing(ArtifactError):
    """Report a missing artifact: never written, or without a manifest."""


class ArtifactIncompatible(ArtifactError):
    """Report a finished artifact that is incompatible.

    Its schema version, kind, class list, image size or network differs.
    """


class ArtifactCorrupt(ArtifactError):
    """Report files that differ from the manifest."""


class DownloadError(RaydistillError):
    """Report a file that a server refused, or that is not the published one."""

    exit_code = 3


class DivergenceError(RaydistillError):
    """Report non-finite training or matching values; the last finite state is kept."""

    exit_code = 4


class NotRepeated(RaydistillError):
    """Report a published figure that another evaluation does not give."""

    exit_code = 6


class ClusterError(RaydistillError):
    """Report a cluster that lacks resources for a stage or loses workers too often."""

    exit_code = 5


# Packages of object-store clients. If a store does not answer, their errors are not OSErrors.
STORAGE_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google")


def is_storage_error(error: Exception) -> bool:
    """Return whether an object-store client raised the error."""
    return type(error).__module__.partition(".")[0] in STORAGE_CLIENTS


# The cause and the next step for each errno of a lack of memory, files, threads or space.
LACKS = {
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many files are open", "close other programs"),
    errno.EFBIG: ("a file would be larger than the limit of its size", "raise the limit (ulimit -f)"),
    errno.ENOMEM: ("memory is short", "end other programs, or raise the limit (ulimit -v)"),
    errno.EAGAIN: ("no more processes or threads may start", "raise the limit (ulimit -u)"),
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk is full", "free some space"),
}


def find_lack(error: BaseException) -> ClusterError | ArtifactError | None:
    """Return the error message for what the machine lacks; None for another error."""
    code = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        code = errno.ENOMEM
    elif "can't start new thread" in str(error):
        code = errno.EAGAIN
    elif "No usable temporary directory" in str(error):
        fix = "set TMPDIR to one, or raise the limit of file sizes (ulimit -f)"
        return ClusterError("no folder for temporary files can be written to", "this machine", fix)
    if code not in LACKS:
        return None
    what, fix = LACKS[code]
    error_class = ArtifactError if what == "the disk is full" else ClusterError
    where = getattr(error, "filename", None) or "this machine"
    return error_class(what, str(where), f"{fix} and run the same command again; it resumes")


def find_known_error(error: BaseException | None) -> RaydistillError | None:
    """Return the first RaydistillError in a causal chain; None for a bug.

    A lack of memory, space or the like becomes a ClusterError, another OSError that names a file an
    ArtifactError. Ray wraps the exceptions of its workers.
    """
    while error is not None:
        inner = getattr(error, "cause", None)  # Ray's wrapper may subclass the error that it wraps
        if inner is None and isinstance(error, RaydistillError):
            return error
        if inner is None and (lack := find_lack(error)):
            return lack
        if inner is None and isinstance(error, OSError) and error.filename is not None:
            what = (error.strerror or type(error).__name__).lower()
            return ArtifactError(what, str(error.filename), "check the path, its permissions and the disk")
        error = inner or error.__cause__
    return None


def describe_yaml_error(error: Exception) -> str:
    """Return the line, column and problem of invalid YAML."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def describe_arrow_error(error: Exception) -> str:
    """Return the cause of an error of Arrow, which puts it last in the first line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rpartition(": ")[2].rstrip(".")


def shorten(text: str, length: int = 200) -> str:
    """Return the start of a text that is too long for a sentence.

    >>> shorten("a.b.c", 3)
    'a.b…'
    """
    return text if len(text) <= length else f"{text[:length]}…"


def join_hint(hint: str, more: str) -> str:
    """Return a hint of `nearest`, followed by another sentence."""
    return f"{hint}{'' if hint.endswith('?') else '.'} {more}"


def listed(words: Sequence[str], most: int = 6) -> str:
    """Return the first words of a list.

    Examples
    --------
    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    shown = ", ".join(words[:most])
    return shown if len(words) <= most else f"{shown} and {len(words) - most} more"


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """Return a hint: the most similar known word, or a list if none is similar.

    Upper and lower case are the same.

    Examples
    --------
    >>> nearest("depht", ["width", "depth"])
    "did you mean 'depth'?"
    """
    import difflib

    by_lower = {name.lower(): name for name in reversed(known)}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.5)
    if close:
        return f"did you mean '{by_lower[close[0]]}'?"
    return f"known are: {', '.join(known[:12])}{', …' if len(known) > 12 else ''}"
