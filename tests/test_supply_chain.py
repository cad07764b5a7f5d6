"""What is installed: locked by hash, listed in the SBOM, under licenses that allow it."""

import json
import re
import runpy
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "locks"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
FOR_USERS = sorted(set(EXTRAS) - {"dev", "docs", "bench"})
UNHASHED = {"torch"}
"""Its wheel differs from index to index: PyPI's has CUDA, PyTorch's own indexes have one for each kind of machine."""

ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "MIT", "MIT-0",
    "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
}  # fmt: skip
"""SPDX identifiers. None of them asks for the source of what is linked with it; MPL-2.0 asks for that of its own files."""
PROPRIETARY = {"tensorrt", "tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs"}  # fmt: skip
"""NVIDIA's own license: only in extras that are for its GPUs."""
FOR_NVIDIA = {"gpu", "trt", "trt-rtx"}
SPDX_OF_CLASSIFIER = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
SPDX_OF_TEXT = {"3-Clause BSD License": "BSD-3-Clause"}


def pins(path):
    return {
        canonicalize_name(name): version
        for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE)
    }


def licenses(package: Distribution | None) -> set[str]:
    """The SPDX identifiers that a package declares: as an expression (PEP 639), by a classifier, or in one word."""
    if package is None:
        return {"not installed"}
    if expression := package.metadata.get("License-Expression"):
        return set(re.split(r" AND | OR |[()]", expression)) - {""}
    classifiers = [
        line.rsplit(" :: ", 1)[1] for line in package.metadata.get_all("Classifier", []) if "License :: " in line
    ]
    if classifiers:
        return {SPDX_OF_CLASSIFIER.get(name, name) for name in classifiers}
    text = package.metadata.get("License") or "none declared"
    return {SPDX_OF_TEXT.get(text, text)}


def installed(requirements, extras=frozenset({""}), found=None):
    """The distributions that requirements bring, by name, and the names of those that are not installed here."""
    found = {} if found is None else found
    for requirement in map(Requirement, requirements):
        name, marker = canonicalize_name(requirement.name), requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        key = (name, frozenset(requirement.extras))
        if key in found:
            continue
        try:
            found[key] = distribution(name)
        except PackageNotFoundError:
            found[key] = None
            continue
        installed(found[key].requires or [], requirement.extras | {""}, found)
    return found


@pytest.mark.parametrize("extra", FOR_USERS)
def test_every_dependency_has_an_allowed_license(extra):
    found = {name: package for (name, _), package in installed(EXTRAS[extra]).items() if name != "medseglatdiff"}
    if extra in FOR_NVIDIA:
        found = {name: package for name, package in found.items() if name not in PROPRIETARY}
        if None in found.values():
            pytest.skip(f"not installed: {', '.join(name for name, package in found.items() if package is None)}")
    assert {name: licenses(package) - ALLOWED for name, package in found.items() if licenses(package) - ALLOWED} == {}


@pytest.mark.parametrize("extra", sorted(set(EXTRAS) - set(FOR_USERS)))
def test_no_tool_is_under_the_gpl(extra):
    found = {name: package for (name, _), package in installed(EXTRAS[extra]).items() if name != "medseglatdiff"}
    declared = {name: " ".join(licenses(package)) for name, package in found.items()}
    assert {name: text for name, text in declared.items() if "GPL" in text or "General Public" in text} == {}


@pytest.mark.parametrize("lock", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.name)
def test_a_lock_has_the_pinned_versions_with_their_hashes(lock):
    pinned = pins(ROOT / "constraints.txt")
    locked = pins(lock)
    assert locked
    assert {name: pinned[name] for name in locked if name in pinned} == {
        name: version for name, version in locked.items() if name in pinned
    }, "run `make lock`"
    entries = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert all("--hash=sha256:" in entry for entry in entries)


def test_all_that_is_pinned_is_locked():
    assert set(pins(ROOT / "constraints.txt")) - set(pins(LOCKS / "ci.txt")) == UNHASHED, "run `make lock`"


@pytest.mark.parametrize(
    ("lock", "extras"), [("runtime", ("", "cpu", "dicom")), ("node", ("", "cpu", "dicom", "node"))]
)
def test_what_an_image_installs_is_pinned_and_all_that_it_needs(lock, extras):
    locked = set(pins(LOCKS / f"{lock}.txt"))
    assert locked <= set(pins(ROOT / "constraints.txt"))
    wanted = {canonicalize_name(Requirement(line).name) for extra in extras for line in EXTRAS[extra]}
    assert wanted - {"medseglatdiff"} <= locked, "run `make lock`"


def test_the_sbom_lists_what_the_image_installs():
    sbom = json.loads((LOCKS / "medseglatdiff.cdx.json").read_text())
    version = runpy.run_path(str(ROOT / "runtime" / "medseg_runtime" / "_version.py"))["__version__"]
    assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == ("CycloneDX", "medseglatdiff")
    assert sbom["metadata"]["component"]["version"] == version, "run `make lock`"
    listed = {canonicalize_name(entry["name"]): entry["version"] for entry in sbom["components"]}
    assert listed == pins(LOCKS / "runtime.txt"), "run `make lock`"


def test_the_image_installs_nothing_without_a_hash():
    dockerfile = re.sub(r"\\\n", "", (ROOT / "Dockerfile").read_text())
    installs = re.findall(r"pip(?: --python \S+)? install ([^&\n]*)", dockerfile)
    assert len(installs) == 3
    assert all("--no-deps" in line and ("--require-hashes" in line or "--no-index" in line) for line in installs)
