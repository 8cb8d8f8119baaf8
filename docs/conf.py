"""Configure the site that `make docs` builds into build/docs, offline."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import raydistill

project = "raydistill"
author = "The raydistill maintainers"
copyright = author
release = version = raydistill.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "mathml",
]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}
nb_execution_mode = "off"  # a test runs the notebook; the site shows the outputs that it was saved with
exclude_patterns = ["_ext", "_templates"]
templates_path = ["_templates"]

myst_enable_extensions = ["dollarmath", "attrs_inline", "colon_fence"]
myst_heading_anchors = 4
smartquotes = False  # error messages and option names are shown as they are

autosummary_generate = True
autodoc_typehints = "signature"  # the Parameters sections of the docstrings name no types
python_maximum_signature_line_length = 80  # else one parameter per line
default_role = "py:obj"  # `name` in a docstring is code, and a link if it has a page
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_math_renderer = "mathml"  # browsers draw MathML without a script from the internet
html_theme = "pydata_sphinx_theme"
html_title = f"raydistill {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
# Pages without subpages have nothing to list in a sidebar.
html_sidebars = {
    page: [] for page in ("index", "tutorial", "notebook", "results", "method", "changelog", "contributing")
}


def shorten_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: Any
) -> Any:
    """Write `...` for a default of a factory, and leave out types with validators."""
    if signature is None:
        return None
    if "Annotated[" in signature:
        parameters = inspect.signature(obj).parameters.values()
        signature = str(inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in parameters]))
    return signature.replace("<factory>", "..."), returns


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", shorten_signature)
