"""The workflows, the Makefile, the package's metadata and the container agree with each other."""

import json
import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMAND = re.compile(r"\bmedseg-[a-z]+\b")


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def pythons(job):
    matrix = job["strategy"]["matrix"]
    return set(matrix["python"]) | {entry["python"] for entry in matrix.get("include", [])}


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request):
    return yaml.safe_load(request.param.read_text())


@pytest.fixture(scope="module")
def ci():
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())


@pytest.fixture(scope="module")
def check_release():
    return runpy.run_path(str(ROOT / "tests" / "check_release.py"))


def classified():
    found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in PROJECT["classifiers"]]
    return {match[1] for match in found if match}


def test_ci_tests_every_python_that_the_package_names(ci):
    assert pythons(ci["jobs"]["tests"]) == classified()


def test_the_lowest_python_is_the_required_one():
    assert min(classified(), key=lambda version: int(version.split(".")[1])) == PROJECT["requires-python"].removeprefix(
        ">="
    )


def test_wheels_are_tried_on_the_first_and_the_last_python(ci):
    ordered = sorted(classified(), key=lambda version: int(version.split(".")[1]))
    assert pythons(ci["jobs"]["wheel"]) == {ordered[0], ordered[-1]}


def test_workflows_run_make_targets_that_exist(workflow):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = {
        name for step in steps(workflow) for name in re.findall(r"^make ([a-z-]+)", step.get("run", ""), re.MULTILINE)
    }
    assert wanted <= targets


def test_every_target_that_is_no_file_is_phony():
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    assert set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)) == phony


@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / "Dockerfile"], ids=lambda path: path.name)
def test_commands_that_are_run_exist(path):
    assert set(COMMAND.findall(path.read_text())) <= set(PROJECT["scripts"])


def test_the_files_that_workflows_run_exist(workflow):
    named = {
        name
        for step in steps(workflow)
        for name in re.findall(r"\b(?:tests|docs|examples)/\w+\.\w+", step.get("run", ""))
    }
    assert all((ROOT / name).exists() for name in named)


def test_every_action_has_a_version(workflow):
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert all(re.search(r"@(v\d+|release/v\d+)$", name) for name in used)


def test_jobs_may_only_read_unless_they_publish(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    assert {name for name, job in workflow["jobs"].items() if "permissions" in job} <= {"pypi", "github"}


def test_every_job_that_runs_steps_has_a_time_limit(workflow):
    assert all("timeout-minutes" in job for job in workflow["jobs"].values() if "steps" in job)


def test_nothing_is_published_before_ci_has_passed():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    assert set(jobs["pypi"]["needs"]) == {"ci", "build"}
    assert jobs["github"]["needs"] == ["pypi"]


def test_the_wheels_files_reach_the_container():
    wanted = {line[1:].strip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert {path.split("/")[0] for path in packages} | {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "locks",
    } == wanted


def test_the_container_runs_as_an_ordinary_user():
    users = re.findall(r"^USER (\d+):\d+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users
    assert "0" not in users


def test_container_and_dev_container_have_the_python_of_the_pins():
    (pinned,) = re.findall(r"Python (3\.\d+)", (ROOT / "constraints.txt").read_text())
    assert f"ARG BASE=python:{pinned}-slim" in (ROOT / "Dockerfile").read_text()
    assert json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())["image"].endswith(f":{pinned}")


CHANGELOG = "# Changelog\n\n## 0.2.0 - 2026-12-31\n\nNew.\n\n- one\n\n## 0.1.0 - unreleased\n\nFirst.\n"


def test_the_notes_of_a_release_are_its_section_of_the_changelog(check_release):
    assert check_release["notes"]("v0.2.0", "0.2.0", CHANGELOG) == "New.\n\n- one\n"


@pytest.mark.parametrize(
    ("tag", "version", "problem"),
    [
        ("v0.2.1", "0.2.0", "tag is v0.2.1"),
        ("0.2.0", "0.2.0", "tag is 0.2.0"),
        ("v0.3.0", "0.3.0", "no section"),
        ("v0.1.0", "0.1.0", "unreleased"),
    ],
)
def test_a_tag_that_fits_neither_version_nor_changelog_is_refused(check_release, tag, version, problem):
    with pytest.raises(ValueError, match=problem):
        check_release["notes"](tag, version, CHANGELOG)


def test_our_own_changelog_has_a_section_for_the_version(check_release):
    version = runpy.run_path(str(check_release["VERSION_FILE"]))["__version__"]
    assert re.search(rf"^## {re.escape(version)} - ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
