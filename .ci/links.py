"""Every link of the built documentation leads to a file and a place in it that exist."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag


class Page(HTMLParser):
    """What a page names, and what it links to."""

    def __init__(self, text: str) -> None:
        """Read all of it."""
        super().__init__()
        self.names: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep names and links."""
        del tag
        for name, value in attrs:
            if name in ("id", "name"):
                self.names.add(value or "")
            elif name in ("href", "src"):
                self.links.add(value or "")


root = Path(sys.argv[1]).resolve()
pages = {p: Page(p.read_text(encoding="utf-8")) for p in root.rglob("*.html")}
broken, others, seen = [], set(), 0
for place, page in pages.items():
    for link in page.links:
        if "://" in link:
            others.add(link)
            continue
        if link.startswith(("mailto:", "data:", "#top")) or link in ("", "#"):
            continue
        seen += 1
        path, anchor = urldefrag(unquote(link))
        path = path.partition("?")[0]
        target = (place.parent / path).resolve() if path else place
        known = pages.get(target)
        if not target.is_file() or (anchor and known and anchor not in known.names):
            broken.append(f"{place.relative_to(root)}: {link}")
print(*sorted(others), sep="\n")
print(f"{len(pages)} pages, {seen} links inside, {len(others)} to others")
sys.exit("\n".join(["broken:", *broken]) if broken else 0)
