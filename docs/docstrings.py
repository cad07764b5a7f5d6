"""Bring docstrings into Markdown: an extension of Griffe, which reads the sources for the reference."""

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^(>>> .+(?:\n.+)*)", re.MULTILINE)
ARGUMENT = re.compile(r"^(\w+(?:, \w+)*): (?=\S)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Fence doctests, without their directives, and make a list of the lines that describe arguments."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        _rewrite(obj)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite the docstring of the package."""
        _rewrite(pkg)


def _rewrite(obj: griffe.Object) -> None:
    if obj.docstring and "```" not in obj.docstring.value:
        listed = ARGUMENT.sub(r"- **\1**: ", obj.docstring.value)
        obj.docstring.value = DOCTEST.sub(r"```pycon\n\1\n```", re.sub(r" *# doctest: .*", "", listed))
