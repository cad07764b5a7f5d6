"""Parts are put together, and the page has their figures."""

import pytest

pytest.importorskip("monai", reason="the benchmarks need `pip install 'medseglatdiff[bench]'`")

from benchmarks.robustness import report
from benchmarks.robustness.faults import FAULTS, RIGHT, WRONG, Faults
from benchmarks.robustness.kills.subjects import SUBJECTS
from benchmarks.robustness.kills.trials import Kills
from benchmarks.robustness.page import page
from benchmarks.robustness.stream import Stream


def test_the_page_has_the_figures_of_all_parts(tmp_path, machine, monkeypatch):
    monkeypatch.setattr(report, "inspect_machine", lambda: machine)
    parts = tmp_path / "parts"
    parts.mkdir()
    for subject in SUBJECTS:
        Kills(
            subject=subject, command=f"kills {subject}", date="2026-01-01", seed=0, seconds=60.0,
            killed={"SIGKILL": 1234}, found={"runs to the end": 5}, faults={"half result": 7},
        ).write(parts / f"kills-{subject}.json")  # fmt: skip
    for kind in FAULTS:
        outcomes = dict.fromkeys((*RIGHT, *WRONG), 0) | {"errors": 89}
        Faults(kind=kind, command=f"faults {kind}", date="2026-01-01", seconds=1.0, outcomes=outcomes).write(
            parts / f"faults-{kind}.json"
        )
    Stream(
        command="stream", date="2026-01-01", seconds=60.0, samples=1, errors={"ImageError": 2}, images=(10, 20),
        resident_mib=(100.0, 101.0), proportional_mib=(90.0, 91.0), descriptors=(9, 9), threads=(3, 3),
    ).write(parts / "stream.json")  # fmt: skip
    written = page(report.gather(parts, "python -m benchmarks.robustness --parts PARTS")).write(tmp_path / "results")
    text = written.read_text()
    assert f"{len(SUBJECTS) * 1234:,} runs were ended" in text
    assert "half result 7" in text
    assert "| 89 |" in text
    assert "100.0 MiB per 1,000 images" in text
    assert page(report.Report.read(written.with_suffix(".json"))).markdown() == text
