"""Change a JSON text as a tree: values of another type, keys left out, given twice or renamed, and whole branches moved."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.5, 1e308, float("nan"), float("inf"), "", "x", "1", "N",
    "../x", "/dev/zero", "a\0b", "\x1b[31m", "\ud800", "é" * 300, [], {}, [[]], [1, 2], {"x": 1},
)  # fmt: skip
DEEP = 2000
Place = tuple[Any, Any]
"""A container and the key or index of a value in it."""


def change(content: bytes, chance: Random) -> bytes:
    """Return the text with one to three changes.

    Raises:
        ValueError: it is not JSON.
    """
    tree = json.loads(content)
    for _ in range(chance.randint(1, 3)):
        places = list(_places(tree))
        if not places:
            break
        _change_one(places, chance)
    text = json.dumps(tree, ensure_ascii=chance.random() < 0.5)
    if chance.random() < 0.05:
        text = _twice(text, chance)
    if chance.random() < 0.01:
        text = "[" * DEEP + text + "]" * DEEP
    return text.encode("utf-8", "surrogatepass")


def _places(tree: Any) -> list[Place]:
    """Return every place of a tree."""
    found: list[Place] = []
    pending = [tree]
    while pending:
        inner = pending.pop()
        keys = list(inner) if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
        found += [(inner, key) for key in keys]
        pending += [inner[key] for key in keys]
    return found


def _change_one(places: list[Place], chance: Random) -> None:
    container, key = chance.choice(places)
    other, other_key = chance.choice(places)
    kind = chance.randrange(6)
    if kind == 0:
        del container[key]
    elif kind == 1:
        container[key] = copy.deepcopy(other[other_key])
    elif kind == 2 and isinstance(container, dict):
        container[chance.choice(("x", "", str(other_key)))] = container.pop(key)
    elif kind == 3 and isinstance(container, list):
        container.append(copy.deepcopy(container[key]))
    elif kind == 4 and isinstance(container[key], int | float):
        container[key] = chance.choice((-1, 2, 0.5, 1000)) * container[key]
    else:
        container[key] = copy.deepcopy(chance.choice(ODD_VALUES))


def _twice(text: str, chance: Random) -> str:
    """Give an object's first key a second time."""
    at = [number for number, character in enumerate(text) if character == "{"]
    where = chance.choice(at) + 1 if at else 0
    return f'{text[:where]}"name": 1, "name": 2, {text[where:]}'
