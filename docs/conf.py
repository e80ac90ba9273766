"""Sphinx configuration: MyST pages, the API from docstrings, every warning an error (see .ci/run)."""

from aioxo._version import __version__

project = "aioxo"
author = "The aioxo authors"
project_copyright = "2026, the aioxo authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
# Backticks in our docstrings name things; they are no cross-references that must resolve.
default_role = "literal"
napoleon_google_docstring = True
napoleon_use_rtype = False
# As fields of the class, not as descriptions of their own that would stand beside those of properties.
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"aioxo {release}"
