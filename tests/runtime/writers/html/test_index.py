"""The index of reports: what it lists, and what it never replaces."""

import json

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import OutputError, Segmenter
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.testing import toy_segmenter
from medseg_runtime.writers.html.index import write_index

HOSTILE = "a'\"<img src=x onerror=alert(1)>&#x41;?#%41"


@pytest.fixture
def results(tmp_path):
    """A folder with three reports, one of which has a name full of markup, and two folders that are no result."""
    segmenter = toy_segmenter()
    for number, name in enumerate(("one", HOSTILE, "three")):
        segmenter(np.full((80, 70 + number), 9, np.uint8), samples=4).save(tmp_path / name, html=True)
    segmenter(np.zeros((80, 70), np.uint8), samples=4).save(tmp_path / "without a report")
    for name, record in (("broken", "{"), ("another", '{"input": 3}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(record)
        (tmp_path / name / "report.html").write_text("")
    return tmp_path


def test_it_links_each_report(opened, results):
    path = write_index(results)
    assert path == results / "index.html"
    with opened(path) as page:
        links = page.locator("a")
        assert links.all_inner_texts() == sorted(["one", HOSTILE, "three"])
        assert page.locator("img").count() == 0
        assert page.locator("tbody svg line").count() == 3 * 4
        targets = [link.get_attribute("href") for link in links.all()]
    with opened(path) as page:
        assert all(
            page.evaluate("(href) => new URL(href, location).search + new URL(href, location).hash === ''", each)
            for each in targets
        )


@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_in_it_is_inaccessible(opened, results, width):
    axe = pytest.importorskip("axe_core_python.sync_playwright").Axe()
    with opened(write_index(results), viewport={"width": width, "height": 900}) as page:
        assert [each["id"] for each in axe.run(page)["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [400, 1600])
def test_screen_readers_find_a_table_at_any_width(opened, results, width):
    with opened(write_index(results), viewport={"width": width, "height": 900}) as page:
        assert page.get_by_role("row").count() == 1 + 3
        assert page.get_by_role("columnheader").count() == 6
        assert page.get_by_role("rowheader").all_inner_texts() == sorted(["one", HOSTILE, "three"])
        assert page.get_by_role("cell").count() == 3 * 5


def test_a_name_cannot_turn_the_text(results):
    (results / "one").rename(results / "one\u202egpj.exe")
    text = write_index(results).read_text(encoding="utf-8")
    assert "\u202e" not in text
    assert "one%E2%80%AEgpj.exe/report.html" in text


def test_it_is_made_anew_and_the_same(results):
    first = write_index(results).read_bytes()
    assert write_index(results).read_bytes() == first
    assert not list(results.glob(".partial*"))


def test_another_index_is_never_replaced(results):
    (results / "index.html").write_text("<html>mine</html>")
    with pytest.raises(OutputError, match="not an index of reports"):
        write_index(results)
    assert (results / "index.html").read_text() == "<html>mine</html>"


@pytest.fixture
def infer(monkeypatch, run_command, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Segmenter, "load", lambda *_, **__: toy_segmenter())
    for name in ("a", "b"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 70)).astype(np.uint8)).save(f"{name}.png")
    return lambda *arguments: run_command(infer_command.main, "medseg-infer", *arguments)


def test_the_command_writes_reports_and_their_index(infer, tmp_path):
    code, out, err = infer("a.png", "b.png", "--samples", "3", "--html")
    assert code == 0
    assert "-> results/a/report.html" in out
    assert "All reports -> results/index.html" in err
    assert "a/report.html" in (tmp_path / "results/index.html").read_text()
    assert "report.html" in json.loads((tmp_path / "results/b/result.json").read_text())["outputs"]


def test_one_image_needs_no_index(infer, tmp_path):
    code, out, _ = infer("a.png", "--samples", "3", "--html", "--out", "one")
    assert (code, out.endswith("-> one/report.html\n")) == (0, True)
    assert not list(tmp_path.rglob("index.html"))


def test_another_index_is_found_before_anything_is_computed(infer, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "index.html").write_text("mine")
    code, out, err = infer("a.png", "b.png", "--html")
    assert (code, out) == (1, "")
    assert "Choose another --out." in err
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["index.html"]
