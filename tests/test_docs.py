"""What the documentation shows is what the commands and the package do."""

import ast
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HELP = DOCS / "reference" / "cli"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def pinned(name):
    return re.search(rf"^{name}==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def functions(path):
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_promise_of_the_threat_model_has_tests_that_exist():
    page = (DOCS / "explanation" / "threat-model.md").read_text()
    rows = re.findall(r"^\| .* \|$", page.split("## What is promised")[1], re.MULTILINE)
    promises = [row for row in rows if not row.startswith(("| promise |", "| ---"))]
    assert all("`tests/" in row or "`make " in row or "the workflow `" in row for row in promises)
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert page.count("`tests/") == len(named)
    missing = [f"{path}::{test}" for path, test in named if test not in functions(ROOT / path)]
    assert missing == []


@pytest.mark.skipif(version("typer") != pinned("typer"), reason="the help texts are those of the pinned typer")
def test_help_texts_are_those_of_the_commands(tmp_path):
    pytest.importorskip("torch")
    subprocess.run([sys.executable, DOCS / "command_help.py", tmp_path], check=True)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in HELP.iterdir()}
    assert written == kept, "run `make docs-help`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_options_in_commands_exist(page):
    lines = re.sub(r"\\\n\s*", " ", page.read_text()).splitlines()
    for line in lines:
        for command, arguments in re.findall(r"^(?:\$ | {4})(medseg-\w+)\b([^#|]*)", line):
            known = set(re.findall(r"--[a-z][\w-]*", (HELP / f"{command}.txt").read_text()))
            assert set(re.findall(r"(?<!\w)--[a-z][\w-]*", arguments)) <= known, line


def test_the_python_tutorial_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    page = DOCS / "tutorials" / "embed.md"
    exec("\n".join(blocks(page, "python")), {"__name__": "tutorial"})  # noqa: S102 - our own snippets
    assert (tmp_path / "results" / "embedded" / "result.json").exists()
    assert "(16, 128, 128) bool" in capsys.readouterr().out


def test_the_data_of_the_training_tutorial_can_be_read(phantom, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from medseg_trainer.data.layouts import read_cases

    phantom.write_dataset(tmp_path / "phantoms", num_patients=4)
    monkeypatch.chdir(tmp_path)
    exec((DOCS / "tutorials" / "lay_out.py").read_text(), {})  # noqa: S102 - our own program
    assert (tmp_path / "my-data" / "splits.csv").exists()
    for split in ("train", "val"):
        assert read_cases(tmp_path / "my-data", split, num_classes=1).entries
