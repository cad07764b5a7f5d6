"""Read a TOML file strictly into frozen dataclasses: every key is known, and every value has the type of its annotation."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from medseg_runtime.files.read import read_bytes
from medseg_runtime.files.typed_json import typed
from medseg_service.errors import ConfigurationError, check_all

MAX_BYTES = 1 << 20
Settings = TypeVar("Settings")


def read_toml(path: Path, kind: type[Settings]) -> Settings:
    """Return the content of a TOML file as a dataclass. Paths in it are relative to its folder.

    kind: a dataclass of dataclasses, tuples, paths and what TOML has. None is the default of what may be left out.

    Raises:
        ConfigurationError: the file cannot be read, a key is unknown or missing, or a value cannot be used.
    """
    content = read_bytes(path, ConfigurationError, "Give a TOML file with --config.", limit=MAX_BYTES)
    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"the configuration is not TOML: {error}", "Mend that line.") from error
    made: Settings = _section(kind, table, "", path.absolute().parent)
    return made


def _section(kind: Any, table: dict[str, Any], where: str, folder: Path) -> Any:
    hints = get_type_hints(kind)
    fields = dataclasses.fields(kind)
    required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    values: dict[str, Any] = {}

    def read(key: str) -> None:
        if key not in hints:
            raise _unknown(key, where, list(hints))
        if key not in table:
            raise ConfigurationError(f"{_named(key, where)} is missing", f"Add `{key} = ...`{_to(where)}.")
        values[key] = _value(hints[key], table[key], _named(key, where), folder)

    check_all(partial(read, key) for key in dict.fromkeys([*table, *required]))
    return kind(**values)


def _value(hint: Any, value: Any, where: str, folder: Path) -> Any:
    kind = next((arg for arg in get_args(hint) if arg is not NoneType), hint) if NoneType in get_args(hint) else hint
    if kind is Path and isinstance(value, str):
        return folder / value
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _section(kind, value, where, folder)
    if get_origin(kind) is tuple and dataclasses.is_dataclass(get_args(kind)[0]) and isinstance(value, list):
        inner = get_args(kind)[0]
        return tuple(_value(inner, item, f"{where}[{number}]", folder) for number, item in enumerate(value))
    try:
        return typed(kind, value, where)
    except TypeError as error:
        raise ConfigurationError(str(error), "Give a value of that type.") from error


def _unknown(key: str, where: str, known: list[str]) -> ConfigurationError:
    near = difflib.get_close_matches(key, known, 1)
    remedy = f"Did you mean {near[0]}? Known are: " if near else "Known are: "
    return ConfigurationError(f"{_named(key, where)} is not known", f"{remedy}{', '.join(known)}.")


def _named(key: str, where: str) -> str:
    return f"{where}.{key}" if where else key


def _to(where: str) -> str:
    return f" to [{where}]" if where else ""
