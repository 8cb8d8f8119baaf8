"""Import parts of other packages, and packages that need torchvision.

The latter are imported even if its operators do not fit torch.

A CUDA build of torchvision with a CPU build of torch fails at import, where it registers its
compiled operators. Without the registration its Python code works; an operator raises when it is
called.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

from raydistill.errors import ConfigError

_REGISTRATIONS = ("torchvision._meta_registrations", "torchvision._autograd_registrations")


def import_beside_torchvision(name: str) -> ModuleType:
    """Import a module that needs torchvision but none of its compiled operators.

    Parameters
    ----------
    name
        Dotted name of the module, such as "torchvision.datasets".

    Returns
    -------
    types.ModuleType
        The module.

    Raises
    ------
    ImportError
        If the module is not installed.
    """
    if importlib.util.find_spec("torchvision") is not None:
        _import_torchvision()
    return importlib.import_module(name)


def _import_torchvision() -> None:
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for registration in _REGISTRATIONS:
            sys.modules[registration] = ModuleType(registration)
        importlib.import_module("torchvision")


def import_extra(
    name: str, what: str, where: str, fix: str, load: Callable[[str], ModuleType] = importlib.import_module
) -> ModuleType:
    """Import a module of an optional package.

    ConfigError with these words if it is not installed.
    """
    try:
        return load(name)
    except ImportError as error:
        raise ConfigError(what, where, fix) from error


def public_name(package: str, name: str) -> Any:
    """Return a name of the module `public` of a package; import it for the first one.

    Raises
    ------
    AttributeError
        There is no such name. Or it is that of a module, which Python then imports.
    """
    if name.startswith("_") or importlib.util.find_spec(f"{package}.{name}") is not None:
        raise AttributeError(f"module '{package}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"{package}.public"), name)
    setattr(sys.modules[package], name, value)
    return value


def load_entry_point(point: EntryPoint) -> Any:
    """Return what an entry point of another package names.

    Raises
    ------
    ConfigError
        It cannot be imported.
    """
    try:
        return point.load()
    except Exception as error:  # whatever the module of the package raises
        raise bad_entry_point(point, f"cannot be loaded ({type(error).__name__}: {error})") from error


def bad_entry_point(point: EntryPoint, what: str) -> Exception:
    """Return the error about an entry point of another package."""
    package = point.dist.name if point.dist else "another package"
    return ConfigError(f"'{point.name} = {point.value}' of {package} {what}", point.group, "correct or uninstall it")
