"""Dataset distillation for galaxy surveys.

A few synthetic images per class train a network.

    import raydistill as rd

    report = rd.run("demo")              # simulate, curate, experts, distill, evaluate
    print(report.table())
    prototypes = rd.distill("demo").images

Each stage is a function, and `raydistill.distillation` is the library for tensors of one's own.
`__all__` is the public API: a name in it is deprecated for two minor releases before it goes.
Each name is imported when it is first used (`__init__.pyi` says from where), so that
`import raydistill` loads neither torch nor Ray.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

try:
    import lazy_loader
except ModuleNotFoundError:
    raise ImportError(
        f"{sys.executable} runs this, and raydistill's packages are not installed there; "
        "activate the environment in which raydistill is installed (for a job: before 'ray start')"
    ) from None

from raydistill import table

__version__ = "0.1.0"

_attribute, _names, _listed = lazy_loader.attach_stub(__name__, __file__)
__all__ = (*_listed, *table.SHIPPED)


def __getattr__(name: str) -> Any:
    """Return a public name, or the function of a stage of any package.

    `from raydistill import module` asks for the module first. It must not import the stages of
    other packages, which import modules of this one.
    """
    if name in _listed or find_spec(f"{__name__}.{name}") or name not in table.stages():
        return _attribute(name)
    globals()[name] = function = import_module("raydistill.api").stage_function(table.stages()[name])
    return function


def __dir__() -> list[str]:
    return [*_names(), *table.stages()]
