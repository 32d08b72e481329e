"""The list of receipts that ``put`` and ``pipe`` return."""

from __future__ import annotations

from fsspec_osspresigned.filesystem.receipts import ReceiptList
from fsspec_osspresigned.model import Receipt

ORDINARY = Receipt(path="examplebucket/d/ü.bin", size=2**40, crc64=2**64 - 1)


def test_a_long_list_is_shown_in_part():
    """A cell that ends with it prints no page; a table has failures as well."""
    found = ReceiptList([ORDINARY] * 22 + [OSError(5, "<e>", "b/k")])
    assert repr(found).count("Receipt(") == 20
    assert repr(found).endswith(", ... 3 more]")
    shown = found._repr_html_()
    assert "23 receipts" in shown
    assert shown.count("ü.bin") == 20
    assert "<td>1024 GiB</td>" in shown or "<td>1.0 TiB</td>" in shown
    assert "<td>... 3 more</td>" in shown
    few = ReceiptList(found[20:])._repr_html_()
    assert "more" not in few
    assert "<td>failed</td><td>[Errno 5] &lt;e&gt;: &#x27;b/k" in few
