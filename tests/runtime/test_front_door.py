"""What users import from the package, and what help() shows them."""

import inspect
import subprocess
import sys
from types import ModuleType

import medseg_runtime
from medseg_runtime import SampleRequest, Segmenter, errors


def test_all_is_what_is_visible():
    """As in httpx: nothing public that __all__ does not name."""
    visible = {
        name
        for name, value in vars(medseg_runtime).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert sorted(visible | {"__version__"}) == sorted(medseg_runtime.__all__)


def test_every_error_is_exported():
    ours = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, errors.MedsegError)
    }
    assert ours <= set(medseg_runtime.__all__)


def test_a_call_shows_the_fields_of_a_request():
    fields = list(inspect.signature(SampleRequest).parameters)
    for method in (Segmenter.__call__, Segmenter.stream):
        assert list(inspect.signature(method).parameters)[2:] == fields


def test_readers_are_exported_without_their_libraries():
    code = (
        "import sys; from medseg_runtime import read_image, read_series; "
        "assert not {'pydicom', 'highdicom', 'nibabel'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
