"""Configuration of the documentation.

The pages are plain Markdown, so that they can also be read in the repository. What only
the site has is added here: contents, examples in the text, links to the repository.
"""

import re
from importlib.metadata import metadata
from typing import Any

from sphinx.application import Sphinx

project = "fsspec-osspresigned"
_about = metadata(project)
_urls = dict(line.split(", ", 1) for line in _about.get_all("Project-URL") or ())
language = "en"
author = "The fsspec-osspresigned authors"
copyright = f"2026, {author}"
release = version = _about["Version"]

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
html_baseurl = _urls["Documentation"]
html_static_path = ["_static"]
html_css_files = ["tables.css"]

_REPOSITORY = f"{_urls['Repository']}/blob/main"
# Records of the project, which a search for an option or an error should not find.
_RECORDS = """\
architecture
decisions/index
interop
service-facts
fault-table
dependencies
versions"""
_CONTENTS = {
    "index": f"""
```{{toctree}}
:hidden:
:caption: Upload

quickstart
recipes
uploading
when
resume
reading
errors
```

```{{toctree}}
:hidden:
:caption: Reference

options
cli
sync
api
existing-servers
from-ossfs
comparison
performance
security
emulator
```

```{{toctree}}
:hidden:
:caption: For bucket owners

owners
serve
hosting
browser
write-a-signer
grant
url-map
signer-protocol
```

```{{toctree}}
:hidden:
:caption: 中文

zh/index
```

```{{toctree}}
:hidden:
:caption: Project

{_RECORDS}
Contributing <{_REPOSITORY}/CONTRIBUTING.md>
Changes <{_REPOSITORY}/CHANGELOG.md>
```
""",
    "zh/index": "\n```{toctree}\n:hidden:\n\nquickstart\ncli\nsync\nexisting-servers\nerrors\noptions\nowners\nserve\nhosting\nbrowser\n```\n",
    "decisions/index": "\n```{toctree}\n:hidden:\n:glob:\n\n0*\n```\n",
}
_LANGUAGES = {"py": "python", "mjs": "javascript", "m": "objc"}


def _included(link: re.Match[str]) -> str:
    """Show an example where the page, in the repository, links to it."""
    path = link[1]
    suffix = path.rpartition(".")[2].lower()
    language = _LANGUAGES.get(suffix, suffix)
    return f"```{{literalinclude}} {path}\n:language: {language}\n```"


def _complete(_app: Sphinx, page: str, source: list[str]) -> None:
    text = source[0] + _CONTENTS.get(page, "")
    text = re.sub(
        r"^\[[^\]]*\]\((\.\./examples/\S+\.\w+)\)$", _included, text, flags=re.MULTILINE
    )
    text = re.sub(r"\]\((?:\.\./)+(?=examples/|[A-Z]+\.md)", f"]({_REPOSITORY}/", text)
    if page in _RECORDS.split() or page.startswith("decisions/"):
        text = f"---\nnosearch: true\n---\n{text}"
    source[0] = text


def _tell_language(
    _app: Sphinx, page: str, _template: str, context: dict[str, Any], _document: object
) -> None:
    """Browsers and screen readers take the pages in ``zh`` for Chinese."""
    if page.startswith("zh/"):
        context["language"] = "zh-CN"


def setup(app: Sphinx) -> None:
    app.connect("source-read", _complete)
    app.connect("html-page-context", _tell_language)
