"""Show pages of the repository's root in the site, with their links: a hook of MkDocs."""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {
    "explanation/architecture.md": "ARCHITECTURE.md",
    "project/changelog.md": "CHANGELOG.md",
    "project/contributing.md": "CONTRIBUTING.md",
    "project/security.md": "SECURITY.md",
}
LINK = re.compile(r"\]\(([\w./-]+)(#[\w-]+)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the text of a page, or of the file of the root that it stands for."""
    source = PAGES.get(page.file.src_uri)
    if source is None:
        return markdown
    there = {path: uri for uri, path in PAGES.items()}

    def in_site(link: re.Match[str]) -> str:
        target = there.get(link[1], link[1].removeprefix("docs/"))
        return f"]({posixpath.relpath(target, posixpath.dirname(page.file.src_uri))}{link[2] or ''})"

    return LINK.sub(in_site, (ROOT / source).read_text())
