"""Put a page together: template, style, scripts and data in one HTML file that asks for nothing.

The content security policy allows this page's own style and script, by their hashes, and nothing else: no request, no other script, no
form, no frame. Text gets into the page in two ways only: escaped as HTML, or as JSON without `<`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg_runtime._version import __version__

FOLDER = Path(__file__).parent
SCRIPTS = (
    "palette.js", "masks.js", "outline.js", "viewport.js", "painter.js", "viewer.js",
    "text.js", "histogram.js", "panels.js", "report.js", "load.js", "main.js",
)  # fmt: skip
"""In this order they share one scope. All but the last two make a viewer that takes a plain object, wherever it comes from."""
HOLE = re.compile(r"\{\{([a-z]+)\}\}")


def report_page(title: str, data: Mapping[str, Any]) -> bytes:
    """Return the page of a report. title: plain text. data: see `report.js`; slices as `slices.carried` has them."""
    script = "\n".join(source(name) for name in SCRIPTS)
    style = source("base.css") + source("report.css")
    return page("report.html", title, style=style, script=script, report=json_for_html(data))


def page(template: str, title: str, *, style: str, script: str = "", **parts: str) -> bytes:
    """Return a page. parts: what fills the template's other holes, as HTML or JSON that is safe there."""
    filling = {
        "policy": policy(style, script),
        "title": html.escape(title),
        "version": __version__,
        "style": style,
        "script": script,
        **parts,
    }
    # One pass, so that a hole in what fills another stays text.
    return HOLE.sub(lambda hole: filling[hole[1]], source(template)).encode(errors="replace")


def source(name: str) -> str:
    """Return a file of this package, its lines ended by a line feed: browsers hash them so."""
    return (FOLDER / name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """Return the content security policy (W3C CSP Level 3) for a page with one style and at most one script."""
    allowed = [f"style-src {_hash(style)}"] + ([f"script-src {_hash(script)}"] if script else [])
    return "; ".join(["default-src 'none'", *allowed, "base-uri 'none'", "form-action 'none'"])


def json_for_html(data: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return JSON that no name in it can end: within a script element only `<` has a meaning."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
