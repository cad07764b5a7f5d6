"""The GPU benchmark on a CPU at toy size, with the methods in torch: exporting a bundle takes too long for a test."""

from dataclasses import replace

import pytest
import torch

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import measure
from benchmarks.gpu.page import page
from benchmarks.gpu.report import Report
from medseg_runtime.errors import BackendError

PLAN = program.Plan("tiny", (32,), (1, 2), (1,), seconds=300.0)


@pytest.fixture(scope="module")
def report(machine) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "inspect_machine", lambda: machine)
        patch.setattr(program.Subject, "bundle", lambda *_: None)
        patch.setattr(program, "project_methods", lambda *_: [])
        patch.setattr(measure, "CELL_SECONDS", 0.0)
        patch.setattr(measure, "MIN_CALLS", 1)
        return program.run(PLAN, torch.device("cpu"), "python -m benchmarks.gpu")


def test_every_method_agrees_with_float32_torch_and_is_timed(report):
    assert {cell.method for cell in report.cells} == {"torch eager, sample by sample", "torch eager, batched"}
    assert [cell.missing for cell in report.cells] == [None] * 4
    assert all(cell.error is not None and cell.milliseconds for cell in report.cells)


def test_the_page_is_rendered_from_the_record(report, tmp_path):
    path = page(report).write(tmp_path)
    assert path.name.startswith("gpu_cpu-to-try-the-program_")
    assert page(Report.read(path.with_suffix(".json"))).markdown() == path.read_text()
    assert "| TensorRT: images/s, 16 samples | >= 60 | not run |" in path.read_text()


def test_targets_are_ratios_of_medians_at_the_largest_size(report):
    cell = replace(report.cells[0], steps=4, milliseconds=(10.0,), error=0.0, missing=None, precision="float32")
    cells = [replace(cell, method="TensorRT", samples=n, milliseconds=(t,)) for n, t in ((1, 4.0), (16, 5.0))]
    cells.append(replace(cell, method="torch eager, sample by sample", samples=16, milliseconds=(60.0,)))
    text = page(replace(report, cells=tuple(cells))).markdown()
    assert "| TensorRT: 16 samples over one | <= 1.5 | 1.2 |" in text
    assert "| torch eager, sample by sample, over TensorRT, 16 samples | >= 10 | 12.0 |" in text
    assert "| torch eager, batched, over TensorRT, 16 samples | >= 2 | not run |" in text
    assert "| TensorRT: images/s, 16 samples | >= 60 | 200 |" in text


def test_a_method_that_fails_or_is_out_of_time_gives_a_reason(report):
    subject = program.Subject.of("tiny", 32)

    def broken():
        raise BackendError("no such library", "Install it.")

    cells = [
        next(program._of_method(PLAN, subject, None, "broken", opener, lambda has_time=has_time: has_time))
        for opener, has_time in ((broken, True), (broken, False))
    ]
    assert [cell.missing for cell in cells] == ["not run: no such library. Install it.", "not run: out of time"]
    assert "not run: out of time" in page(replace(report, cells=tuple(cells))).markdown()
