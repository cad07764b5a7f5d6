"""Read JSON strictly, and into frozen dataclasses, checking each value against its annotation.

JSON has no tuples, and a dataclass does not check types: `"steps": "4"` would fail far from the file.
"""

from __future__ import annotations

import dataclasses
import json
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

MAX_JSON_BYTES = 1 << 20
MAX_JSON_DEPTH = 32


def parse_json(text: str) -> Any:
    """Parse a JSON text whose objects have no key twice: readers differ in which of the two counts.

    Raises:
        ValueError: it is not JSON, too long, nested too deeply, or has a key twice.
        RecursionError: it is nested so deeply that Python gives up.
    """
    if len(text) > MAX_JSON_BYTES:
        raise ValueError(f"it has more than {MAX_JSON_BYTES:,} characters")
    content = json.loads(text, object_pairs_hook=_distinct)
    _check_depth(content, MAX_JSON_DEPTH)
    return content


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"it has the key {next(key for key in keys if keys.count(key) > 1)!r:.60} twice")
    return content


def _check_depth(content: Any, left: int) -> None:
    if left == 0:
        raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} deep")
    for inner in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        _check_depth(inner, left - 1)


def typed(kind: Any, value: Any, where: str) -> Any:
    """Convert a JSON value to a type: lists become tuples, objects dataclasses. All other values must have the type.

    kind: a dataclass, str, int, float, bool, Any, Literal, or a tuple, dict or union of these.
    where: name of the value in messages.

    Raises:
        TypeError: the value or a value in it has another type, is missing or unknown.
    """
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any or (origin is Literal and any(value == arg and type(value) is type(arg) for arg in args)):
        return value
    if origin in (Union, UnionType):
        for choice in args:
            try:
                return typed(choice, value, where)
            except TypeError:
                continue
    elif isinstance(value, dict) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        if unknown := value.keys() - hints.keys():
            raise TypeError(f"{where} has unknown fields: {', '.join(sorted(unknown))}")
        return kind(**{key: typed(hints[key], item, f"{where}.{key}") for key, item in value.items()})  # type: ignore[operator]  # a class
    elif isinstance(value, dict) and origin is dict:
        return {typed(args[0], key, where): typed(args[1], item, f"{where}.{key}") for key, item in value.items()}
    elif isinstance(value, list) and origin is tuple:
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) == len(value):
            return tuple(typed(k, item, f"{where}[{i}]") for i, (k, item) in enumerate(zip(kinds, value, strict=True)))
    elif kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError as error:
            raise TypeError(f"{where} is larger than any float") from error
    elif type(value) is kind:  # not isinstance: true is not an int
        return value
    raise TypeError(f"{where} is {value!r:.60}, not {getattr(kind, '__name__', kind) if origin is None else kind}")
