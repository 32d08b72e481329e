"""Configuration of the documentation."""

from importlib.metadata import version as _version
from typing import Any

from sphinx.application import Sphinx

project = "fsspec-osspresigned"
language = "en"
author = "The fsspec-osspresigned authors"
copyright = f"2026, {author}"
release = version = _version(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_default_options = {"show-inheritance": True}
autodoc_member_order = "bysource"
# References to the package itself must resolve; those to other projects need their
# inventories, which a build without a network cannot fetch.
nitpick_ignore_regex = [
    ("py:.*", r"(?!fsspec_osspresigned\b).*"),
    # The inputs of a plan's items are internal, so the pages do not document them.
    ("py:class", r"fsspec_osspresigned\.tools\.sync\.plan\.(Entry|Sent|Stored|Why)"),
    ("py:class", r"fsspec_osspresigned\.model\.Spec"),  # a row of an internal table
]

html_theme = "furo"
html_title = "fsspec-osspresigned"
html_static_path = ["_static"]
html_css_files = ["tables.css"]


def _tell_language(
    _app: Sphinx, page: str, _template: str, context: dict[str, Any], _document: object
) -> None:
    """Browsers and screen readers take the pages in ``zh`` for Chinese."""
    if page.startswith("zh/"):
        context["language"] = "zh-CN"


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", _tell_language)
