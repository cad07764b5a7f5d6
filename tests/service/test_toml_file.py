"""A TOML file is read strictly, and each error says what to type."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from medseg_service.errors import ConfigurationError
from medseg_service.toml_file import read_toml


@dataclass(frozen=True, kw_only=True)
class Part:
    size: int
    file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: str
    ratio: float = 0.5
    names: tuple[str, ...] = ()
    part: Part | None = None
    parts: tuple[Part, ...] = ()


def read(tmp_path, text):
    (tmp_path / "file.toml").write_text(text)
    return read_toml(tmp_path / "file.toml", Whole)


def test_every_kind_of_value_is_read(tmp_path):
    found = read(
        tmp_path,
        'name = "a"\nratio = 1\nnames = ["x", "y"]\n[part]\nsize = 2\nfile = "key.pem"\n[[parts]]\nsize = 3\n',
    )
    assert found == Whole(
        name="a", ratio=1.0, names=("x", "y"), part=Part(size=2, file=tmp_path / "key.pem"), parts=(Part(size=3),)
    )


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("ratio = 1", "name is missing", "Add `name = ...`."),
        ("nmae = 'a'", "nmae is not known", "Did you mean name?"),
        ("name = 'a'\n[part]\nsize = 1\nfiel = 'b'", "part.fiel is not known", "Did you mean file?"),
        ("name = 'a'\n[part]", "part.size is missing", r"to \[part\]"),
        ("name = 'a'\n[[parts]]\nsize = 1\n[[parts]]\nx = 1", r"parts\[1\].x is not known", "Known are: size, file."),
        ("name = 1", "name is 1, not str", "Give a value of that type."),
        ("name = 'a'\nratio = true", "ratio is True, not float", "Give a value of that type."),
        ("name = 'a'\npart = 3", "part is 3", "Give a value of that type."),
        ("name = 'a", "not TOML", "Mend that line."),
        ("name = 'a'\nname = 'b'", "not TOML", "Mend that line."),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, problem, remedy):
    with pytest.raises(ConfigurationError, match=problem) as caught:
        read(tmp_path, text)
    assert caught.match(remedy)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot be read.*--config"):
        read_toml(tmp_path / "none.toml", Whole)
