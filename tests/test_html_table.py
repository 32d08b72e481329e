"""Tables of values in notebooks."""

from __future__ import annotations

from fsspec_osspresigned.units import html_table


def test_no_text_is_taken_as_html():
    """A key may hold anything."""
    shown = html_table("a<b", ("c&d", "e"), [("<script>", 1)])
    assert shown == (
        "<table><caption>a&lt;b</caption><tr><th>c&amp;d</th><th>e</th></tr>"
        "<tr><td>&lt;script&gt;</td><td>1</td></tr></table>"
    )
