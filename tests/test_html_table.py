"""Tables of values in notebooks."""

from __future__ import annotations

from fsspec_osspresigned.model import PartReceipt, Receipt
from fsspec_osspresigned.units import html_table


def test_no_text_is_taken_as_html():
    """A key may hold anything."""
    shown = html_table("a<b", ("c&d", "e"), [("<script>", 1)])
    assert shown == (
        "<table><caption>a&lt;b</caption><tr><th>c&amp;d</th><th>e</th></tr>"
        "<tr><td>&lt;script&gt;</td><td>1</td></tr></table>"
    )


def test_a_receipt_is_one_line_and_a_table():
    """Parts are counted, not shown, and what is not known is left out."""
    parts = tuple(PartReceipt(part_number=n, size=2**23, etag="E") for n in (1, 2))
    receipt = Receipt(
        path="b/<k>",
        size=2**24,
        verified="crc64",
        parts=parts,
        seconds=1.2612,
        stored_at=9.7,
    )
    assert (
        repr(receipt)
        == "Receipt('b/<k>', 16.0 MiB, stored, verified: crc64, 2 parts, 1.3 s)"
    )
    shown = receipt._repr_html_()
    assert "<tr><td>path</td><td>b/&lt;k&gt;</td></tr>" in shown
    assert "<tr><td>size</td><td>16777216</td></tr>" in shown
    assert "<tr><td>parts</td><td>2</td></tr>" in shown
    assert "<tr><td>seconds</td><td>1.26</td></tr>" in shown
    assert "<tr><td>stored_at</td><td>1970-01-01T00:00:09Z</td></tr>" in shown
    assert "version_id" not in shown
    assert "etag" not in shown
    assert "1 part," in repr(Receipt(path="b/k", size=1, parts=parts[:1]))
    assert "one request" in repr(Receipt(path="b/k", size=1))
