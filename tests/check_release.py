"""Check that a tag, the version and the changelog name one release, and write its notes.

python tests/check_release.py v0.1.0 --notes notes.md
"""

import argparse
import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION_FILE = ROOT / "runtime" / "medseg_runtime" / "_version.py"


def notes(tag: str, version: str, changelog: str) -> str:
    """Return the section of the changelog for a release.

    Raises:
        ValueError: tag, version and changelog do not name the same release.
    """
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag}, the version {version}: change _version.py, or tag v{version}")
    section = re.search(rf"^## {re.escape(version)} - (.*)\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE)
    if section is None:
        raise ValueError(f"CHANGELOG.md has no section {version}: write one")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", section[1]):
        raise ValueError(f"CHANGELOG.md dates {version} as {section[1]!r}: write the day, as 2026-12-31")
    return section[2].strip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tag")
    parser.add_argument("--notes", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    version = runpy.run_path(str(VERSION_FILE))["__version__"]
    try:
        arguments.notes.write_text(notes(arguments.tag, version, (ROOT / "CHANGELOG.md").read_text()))
    except ValueError as error:
        sys.exit(f"no release: {error}")


if __name__ == "__main__":
    main()
