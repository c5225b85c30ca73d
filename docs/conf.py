"""The documentation site: `make docs` builds it without network access, warnings as errors."""

from __future__ import annotations

import importlib.metadata
import re

project = "rnnvg"
author = "rnnvg's authors"
release = importlib.metadata.version("rnnvg")
version = release

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "jupyter_execute"]

# Notebooks are text; their output is made when the site is built, and a cell that raises fails the build.
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# Annotations of frozen results need neither torch's nor matplotlib's pages to be read.
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = "rnnvg"
html_show_sourcelink = False
html_static_path = []
html_theme_options = {
    "logo": {"text": "rnnvg"},
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
}


def plain_docstring(app, what, name, obj, options, lines):
    """Docstrings are plain text with `code` in backticks; what reStructuredText would read as markup is escaped."""
    found, example = [], False
    for number, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            indented = line.startswith("    ") and not (number and lines[number - 1].strip())
            section = ("Args:", "Attributes:", "Raises:", " ")
            before = next((each for each in reversed(lines[:number]) if each.strip()), "")
            if indented and before and not before.startswith(section):
                found += ["::", ""]
            pieces = re.split(r"(`[^`]+`)", line)
            pieces = [f"`{piece}`" if piece.startswith("`") else escaped(piece) for piece in pieces]
            line = "".join(pieces)
        found.append(line)
    lines[:] = found


def escaped(text):
    return re.sub(r"([|*])", r"\\\1", re.sub(r"([A-Za-z0-9])_(?![A-Za-z0-9])", r"\1\\_", text))


def setup(app):
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)
