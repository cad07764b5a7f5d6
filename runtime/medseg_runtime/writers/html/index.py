"""The index of a folder of results: one line per report, with links. It is made anew from all result.json files in the folder."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from medseg_runtime.errors import OutputError
from medseg_runtime.files.names import printable
from medseg_runtime.files.replace import replacing
from medseg_runtime.writers.folder import RECORD, REPORT
from medseg_runtime.writers.html.page import page, source

INDEX = "index.html"
MARK = b'<meta name="generator" content="MedSegLatDiff '
"""In the head of each page of ours, and so of an index that may be replaced."""
HEAD_BYTES = 4096
Record = dict[str, Any]


def check_index(folder: Path) -> None:
    """Check that the index of a folder may be written.

    Raises:
        OutputError: another `index.html` is there.
    """
    path = folder / INDEX
    try:
        with path.open("rb") as file:
            ours = MARK in file.read(HEAD_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{printable(path)} cannot be replaced: {error.strerror}", "Choose another --out.") from error
    if not ours:
        raise OutputError(f"{printable(path)} exists and is not an index of reports", "Choose another --out.")


def write_index(folder: Path) -> Path:
    """Write `index.html`, whole or not at all, over the reports in the folders of a folder. Return its path.

    Raises:
        OutputError: another `index.html` is there, or it cannot be written.
    """
    check_index(folder)
    path = folder / INDEX
    try:
        records = dict(_records(folder))
        with replacing(path) as temporary:
            temporary.write_bytes(index_page(records))
    except OSError as error:
        raise OutputError(
            f"{printable(path)} cannot be written: {error.strerror}",
            "The results are whole. Free some space, and run again.",
        ) from error
    return path


def index_page(records: dict[str, Record]) -> bytes:
    """Return the page. records: name of a result's folder => the content of its result.json."""
    count = f"{len(records)} report" if len(records) == 1 else f"{len(records)} reports"
    most = max((area for record in records.values() for area in _all_areas(record)), default=0.0)
    rows = "\n".join(_row(name, record, most) for name, record in records.items())
    return page("index.html", count, style=source("base.css") + source("index.css"), rows=rows)


def _records(folder: Path) -> Iterator[tuple[str, Record]]:
    """Yield the results with a report, by name. A folder that holds another result.json than ours is passed over."""
    for path in sorted(folder.iterdir()):
        if (path / REPORT).is_file():
            try:
                record = json.loads((path / RECORD).read_text(encoding="utf-8"))
                _row(path.name, record, 0.0)
            except (OSError, ValueError, LookupError, TypeError, AttributeError):
                continue
            yield path.name, record


def _all_areas(record: Record) -> Iterable[float]:
    """Return the area of each sample and class, in mm2 if the spacing is known, else in pixels."""
    spacing = record["input"]["spacing_mm"] or (1.0, 1.0)
    return [area * spacing[0] * spacing[1] for each in record["classes"] for area in each.get("areas_px", [])]


def _row(name: str, record: Record, most: float) -> str:
    image, areas = record["input"], list(_all_areas(record))
    unit = "mm²" if image["spacing_mm"] else "px"
    size = f"{median(areas):,.0f} {unit} ({min(areas):,.0f} – {max(areas):,.0f})" if areas else ""
    frames = f", {record['frames']['count']} frames" if "frames" in record else ""
    agreement = [each.get("mean_pairwise_iou") for each in record["classes"]]
    cells = (
        f"{image['kind']}, {image['width']} × {image['height']} px{frames}",
        " / ".join("–" if value is None else f"{value:.2f}" for value in agreement),
        size,
    )
    link = f'<th role="rowheader" scope="row"><a href="{quote(os.fsencode(name), safe="")}/{REPORT}">{html.escape(printable(name))}</a></th>'
    text = "".join(f'<td role="cell">{html.escape(str(cell))}</td>' for cell in cells)
    warnings = str(len(record["warnings"])) if record["warnings"] else ""
    return f'<tr role="row">{link}{text}<td role="cell">{_strip(areas, most)}</td><td role="cell">{warnings}</td></tr>'


def _strip(areas: list[float], most: float) -> str:
    """Return the areas as ticks on a scale that all rows share."""
    ticks = "".join(
        f'<line x1="{160 * area / most:.1f}" x2="{160 * area / most:.1f}" y1="2" y2="16"/>' for area in areas if most
    )
    return f'<svg viewBox="-2 0 164 18" aria-hidden="true"><path d="M0 16.5H160"/>{ticks}</svg>' if ticks else ""
