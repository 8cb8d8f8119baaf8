"""Read the JSON files of an artifact, and check the types of all values."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from raydistill.errors import ArtifactCorrupt
from raydistill.storage import Folder

T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """A dataclass that `read_json` reads back."""

    def to_json(self) -> bytes:
        """Return the bytes of its JSON file."""
        return json.dumps(asdict(self), indent=1).encode()


def read_json(folder: Folder, name: str, kind: type[T]) -> T:
    """Return a JSON file as a dataclass or a container.

    Unknown keys are ignored.

    Raises
    ------
    ArtifactMissing
        There is no such file.
    ArtifactCorrupt
        It is not JSON, or a value is missing or of another type.
    """
    return checked(folder, name, kind, folder.read(name))


def checked(folder: Folder, name: str, kind: type[T], values: Any) -> T:
    """Return JSON or plain values of a file as `read_json` does."""
    adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]  # types are hashable
    try:
        return adapter.validate_json(values) if isinstance(values, bytes) else adapter.validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        fix = "make it again, or install the release that wrote it"
        raise ArtifactCorrupt(f"'{name}' cannot be read ({reason})", folder.uri, fix) from error


@functools.cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)
