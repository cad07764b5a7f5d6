"""Record, page and plot of a benchmark share one stem, and the page states how the run was made."""

from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
import pytest

from benchmarks.common.machine import OtherLoad, inspect_machine
from benchmarks.common.page import Page, Plot, Record, Section


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed(Record):
    figure: float


@pytest.fixture
def page(machine) -> Page:
    record = Speed(date="2026-12-01", command="python -m benchmarks.speed", machine=machine, seconds=120.0, figure=0.25)
    return Page(
        kind="speed",
        subject="AMD EPYC, 2 cores",
        title="Speed",
        record=record,
        data="3 images of 2 patients of the split `val`",
        seed=7,
        facts={"Bundle": "sha256 abc"},
        warnings=("Do not quote.",),
        introduction=("How to read it.",),
        plot=Plot("Time", lambda: plt.subplots()[0]),
        sections=(Section("Figures", ("| a |", "Note.")),),
    )


def test_a_page_states_how_the_run_was_made(page):
    assert page.markdown() == (
        "# Speed: AMD EPYC, 2 cores, 2026-12-01\n\n"
        "> **Do not quote.**\n\n"
        "- Date: 2026-12-01, 2 minutes\n"
        "- Command: `python -m benchmarks.speed`\n"
        "- Machine: A processor, 2 cores, avx2, 1.0 GiB; Linux; Python 3.11; torch 1.0; commit abc\n"
        "- Data: 3 images of 2 patients of the split `val`\n"
        "- Seed: 7\n"
        "- Bundle: sha256 abc\n\n"
        "How to read it.\n\n"
        "![Time](speed_amd-epyc-2-cores_2026-12-01.png)\n\n"
        "## Figures\n\n| a |\n\nNote.\n"
    )


def test_record_page_and_plot_share_one_stem(page, tmp_path):
    path = page.write(tmp_path / "new")
    assert sorted(one.name for one in path.parent.iterdir()) == [
        f"speed_amd-epyc-2-cores_2026-12-01{suffix}" for suffix in (".json", ".md", ".png")
    ]
    assert Speed.read(path.with_suffix(".json")) == page.record
    assert path.read_text() == page.markdown()


def test_a_record_of_another_version_is_refused(page, tmp_path):
    path = page.write(tmp_path).with_suffix(".json")
    path.write_text(path.read_text().replace('"figure": 0.25', '"figure": "fast"'))
    with pytest.raises(TypeError, match="figure"):
        Speed.read(path)


def test_the_wall_time_is_left_out_where_it_was_not_recorded(page):
    page = replace(page, record=replace(page.record, seconds=None))
    assert "- Date: 2026-12-01\n" in page.markdown()


def test_the_machine_is_described_with_its_instruction_sets_and_versions():
    found = inspect_machine(idle_seconds=0.0)
    assert found.cores >= 1
    assert found.versions["torch"] in str(found)
    assert "absent" not in str(found)
    assert 0.0 <= found.taken_by_others <= 1.0
    assert found.has_bf16 == any(name in found.features for name in ("avx512_bf16", "amx_bf16"))


def test_the_load_of_others_is_a_share():
    with OtherLoad() as others:
        sum(range(100_000))
    assert 0.0 <= others.share <= 1.0
