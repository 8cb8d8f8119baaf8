"""Choose among a union's classes by `kind`, as pydantic's discriminated unions do.

The classes themselves are plain dataclasses, most of them of the library, which does not
import pydantic. A package of other people adds a class by an entry point.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Annotated, Any, Union, cast, get_args

from pydantic import BeforeValidator, Field

from raydistill.distillation.options import ImageSpace, Step
from raydistill.distillation.schedule import Schedule, ScheduleBase
from raydistill.imports import bad_entry_point, load_entry_point
from raydistill.learning.architectures import ClassifierArchitecture

BY_KIND = Field(discriminator="kind")


def infer_kind(union: Any) -> BeforeValidator:
    """Return a validator that adds a missing `kind`: the first whose keys fit best."""

    def add_kind(value: Any) -> Any:
        if is_dataclass(value):
            return value
        if not isinstance(value, dict):
            raise ValueError("input should be a dictionary")
        kind = value.get("kind") if "kind" in value else min(get_args(union), key=lambda cls: _misfit(cls, value)).kind
        return {**value, "kind": str(kind)}

    return BeforeValidator(add_kind)


def _misfit(cls: Any, value: dict[str, Any]) -> int:
    """Return the count of `value`'s keys unknown to `cls`, plus missing required ones."""
    required = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
    return len(value.keys() - {f.name for f in fields(cls)}) + len(required - value.keys())


def by_kind(union: Any) -> Any:
    """Return the annotation of a value of one of these classes, chosen by `kind`."""
    return Annotated[union, BY_KIND, infer_kind(union)]


def with_added(union: Any, group: str) -> Any:
    """Return a union with the classes of a group of entry points."""
    return Union[(union, *map(_load_class, added(group).values()))]


def _load_class(point: EntryPoint) -> type:
    loaded: Any = load_entry_point(point)
    if not is_dataclass(loaded) or not isinstance(getattr(loaded, "kind", None), str):
        raise bad_entry_point(point, "is no frozen dataclass with a field `kind: Literal[NAME] = NAME`")
    if point.group == "raydistill.schedules" and not issubclass(cast(type, loaded), ScheduleBase):
        raise bad_entry_point(point, "does not derive from ScheduleBase")
    return cast(type, loaded)


def added(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name."""
    return {point.name: point for point in entry_points(group=group)}


if TYPE_CHECKING:
    AnyArchitecture = ClassifierArchitecture
    AnySchedule = Schedule
else:
    AnyArchitecture = by_kind(with_added(ClassifierArchitecture, "raydistill.networks"))
    AnySchedule = by_kind(with_added(Schedule, "raydistill.schedules"))
AnyStep = Annotated[Step, BY_KIND, infer_kind(Step)]
AnySpace = Annotated[ImageSpace, BY_KIND, infer_kind(ImageSpace)]
