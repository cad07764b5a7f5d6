"""Errors can be copied and pickled."""

import copy
import pickle

import pytest

from medseg_runtime import errors

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MedsegError)]


def pickled(error):
    return pickle.loads(pickle.dumps(error))  # noqa: S301


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("travel", [copy.deepcopy, pickled], ids=["copy", "pickle"])
def test_an_error_arrives_as_it_was(kind, travel):
    arrived = travel(kind("no image", "Give one."))
    assert type(arrived) is kind
    assert (str(arrived), arrived.problem, arrived.remedy) == ("no image. Give one.", "no image", "Give one.")


def test_what_a_terminal_would_obey_is_escaped():
    error = errors.ImageError("'\x1b[2J\u202egnp.exe' is\nno image", "Give one.\x07")
    assert str(error) == r"'\x1b[2J\u202egnp.exe' is no image. Give one.\x07"
