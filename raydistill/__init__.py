"""Dataset distillation for galaxy surveys.

A few synthetic images per class train a network.

    import raydistill as rd

    report = rd.run("demo")              # simulate, curate, experts, distill, evaluate
    print(report.table())
    prototypes = rd.distill("demo").images

`__all__` is the public API: a name in it is deprecated for two minor releases before it goes.
Each name is imported when it is first used (`__init__.pyi` says from where), so that
`import raydistill` loads neither torch nor Ray.
"""

import sys

try:
    import lazy_loader
except ModuleNotFoundError:
    raise ImportError(
        f"{sys.executable} runs this, and raydistill's packages are not installed there; "
        "activate the environment in which raydistill is installed (for a job: before 'ray start')"
    ) from None

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
