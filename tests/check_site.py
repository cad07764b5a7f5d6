"""Check that no page of the built site fetches anything from another host: python tests/check_site.py site."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

FETCHED = {("link", "href"), ("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src")}
ELSEWHERE = re.compile(r"(https?:)?//")


class Fetches(HTMLParser):
    """Collect the addresses that a browser fetches by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if (tag, name) in FETCHED and value and ELSEWHERE.match(value)]


def fetches(site: Path) -> list[str]:
    """Return file and address of each fetch from another host, in pages and style sheets."""
    found = []
    for page in sorted(site.rglob("*.html")):
        parser = Fetches()
        parser.feed(page.read_text())
        found += [f"{page.relative_to(site)}: {address}" for address in parser.found]
    for style in sorted(site.rglob("*.css")):
        addresses = re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")]+)", style.read_text())
        found += [f"{style.relative_to(site)}: {address}" for address in addresses]
    return found


def main() -> None:
    site = Path(sys.argv[1])
    pages = sorted(site.rglob("*.html"))
    if not pages:
        sys.exit(f"{site}: no pages. Run `make docs`.")
    if found := fetches(site):
        sys.exit("\n".join(found))
    print(f"{site}: {len(pages)} pages, nothing fetched from another host")  # noqa: T201 - a script


if __name__ == "__main__":
    main()
