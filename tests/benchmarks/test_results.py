"""The index of the results, their pages, and the commands that the README quotes."""

import re
from pathlib import Path

import pytest

pytest.importorskip("monai", reason="the benchmarks need `pip install 'medseglatdiff[bench]'`")

from benchmarks.common.page import RESULTS
from benchmarks.render import READERS, read_page

INDEX = (RESULTS / "README.md").read_text()
ROWS = [line.strip("| ").split(" | ") for line in INDEX.splitlines() if line.startswith("| [")]
PAGES = {re.search(r"\((.+)\.md\)", row[0])[1]: row for row in ROWS}
COMMAND = re.compile(r"`?(python -m benchmarks\.|medseg-train |make bench)")


def test_the_index_and_the_folder_hold_the_same_pages():
    assert len(PAGES) == len(ROWS)
    assert {path.stem for path in RESULTS.iterdir()} - {"README"} == PAGES.keys()
    assert {path.suffix for path in RESULTS.iterdir()} == {".md", ".json", ".png"}
    assert all((RESULTS / f"{stem}.md").exists() for stem in PAGES)


@pytest.mark.parametrize("stem", PAGES)
def test_a_page_states_its_date_and_command_and_its_files_exist(stem):
    text = (RESULTS / f"{stem}.md").read_text()
    _, measures, date, machine, command, finding = PAGES[stem]
    assert stem.endswith(f"_{date}")
    assert date in text
    assert COMMAND.search(text)
    assert COMMAND.search(command)
    assert all((measures, machine, finding))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target.startswith("http") or (RESULTS / target).exists(), target


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_stored_record_is_rendered_to_its_page(path):
    page = read_page(path)
    assert page.stem == path.stem
    assert tables(page.markdown()) == tables(path.with_suffix(".md").read_text())


def tables(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def test_every_kind_of_page_that_a_program_writes_is_known():
    kinds = {stem.rsplit("_", 2)[0] for stem in PAGES}
    assert kinds - READERS.keys() == {"photo", "training", "tried"}


def test_the_readme_names_only_modules_that_exist():
    root = Path(RESULTS).parents[1]
    modules = re.findall(r"python -m (benchmarks[.\w]*)", (root / "benchmarks" / "README.md").read_text() + INDEX)
    assert modules
    for module in modules:
        path = root.joinpath(*module.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
