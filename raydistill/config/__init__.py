"""Define the config: a typed tree of frozen dataclasses.

A YAML file is a complete, named run.

tree       the whole config; the part of a stage is in its package, `raydistill.stages.NAME.config`
resources  the parts about resources and tracking
differences  keys that differ from their defaults
kinds      choice among classes by `kind`
reading    YAML and overrides -> Config
overrides  `a.b=c` of the command line
limits     the largest values
messages   one sentence for a wrong config
public     the names that this package gives, imported when the first one is used: the tree imports
           the config of each stage, and these import modules of this package
"""

from typing import TYPE_CHECKING, Any

from raydistill.imports import public_name

if TYPE_CHECKING:
    from raydistill.config.public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    return public_name(__name__, name)
