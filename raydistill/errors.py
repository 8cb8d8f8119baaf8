"""Every error a user can meet: one sentence that says what is wrong, where, and what to do next.

The exit code of the command line is a property of the class, so that scripts can tell a typing error in a
config (2) from a damaged artifact (3), a run that diverged (4) and a cluster that cannot serve the request (5).
`args` equal the parameters of `__init__`: an exception that does not survive pickling is lost on its way back
from a Ray worker.
"""


class RaydistillError(Exception):
    """Base of all errors raised on purpose. `str()` gives "where: what; fix."."""

    exit_code = 1

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        sentence = f"{self.where}: {self.what}" if self.where else self.what
        return f"{sentence}; {self.fix}" if self.fix else sentence


class ConfigError(RaydistillError):
    """The config file or an override is wrong."""

    exit_code = 2


class CatalogError(RaydistillError):
    """The vote table or the images are not what the config says they are."""

    exit_code = 3


class ArtifactError(RaydistillError):
    """An artifact cannot be used."""

    exit_code = 3


class ArtifactMissing(ArtifactError):
    """No artifact there: never written, or its writer was stopped before the manifest."""


class ArtifactIncompatible(ArtifactError):
    """A whole artifact, but not one that fits here (schema version, kind, classes, image size, network)."""


class ArtifactCorrupt(ArtifactError):
    """The files are not those that the manifest describes."""


class DivergenceError(RaydistillError):
    """Training or matching left the finite numbers; the last good state is kept."""

    exit_code = 4


class ClusterError(RaydistillError):
    """The cluster cannot give what the stage needs, or lost it too often."""

    exit_code = 5


# The Python packages of object stores' clients; their errors are no OSErrors when a store does not answer.
STORAGE_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google")


def is_storage_error(error: Exception) -> bool:
    """Whether it is an error of an object store's client."""
    return type(error).__module__.partition(".")[0] in STORAGE_CLIENTS


def find_known_error(error: BaseException | None) -> RaydistillError | None:
    """The first of these errors, or of the system's, in a chain of causes: Ray wraps what its workers raise. None: a bug."""
    while error is not None:
        inner = getattr(error, "cause", None)  # Ray's wrapper, which may pretend to be what it wraps
        if inner is None and isinstance(error, RaydistillError):
            return error
        if inner is None and isinstance(error, OSError) and error.filename is not None:
            what = (error.strerror or type(error).__name__).lower()
            return ArtifactError(what, str(error.filename), "check the path, its permissions and the disk")
        error = inner or error.__cause__
    return None


def describe_yaml_error(error: Exception) -> str:
    """Where and why a text could not be read as YAML, in a line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def join_hint(hint: str, more: str) -> str:
    """A hint of `nearest` and a sentence behind it."""
    return f"{hint}{'' if hint.endswith('?') else '.'} {more}"


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """A hint naming the known word most like `word`, or all of them when none is alike."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    listed = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    return f"known are: {listed}"
