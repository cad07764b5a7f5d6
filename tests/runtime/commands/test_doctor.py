"""medseg-doctor reports what is broken, and the commands that repair it."""

import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from medseg_runtime import BundleError
from medseg_runtime.backends.auto.select import COMPARISON_UNFINISHED, Choice
from medseg_runtime.commands import doctor
from medseg_runtime.files import cache
from medseg_runtime.machine.processor import processor
from medseg_runtime.model.bundle import Bundle
from medseg_runtime.testing import toy_manifest


@pytest.fixture
def healthy(monkeypatch):
    """One engine and an intact bundle, whatever is installed here."""
    bundle = Bundle(
        Path("x"), toy_manifest(), "ab" * 32, {"encoder": b"x" * 2_500_000, "denoiser": b"", "decoder": b""}
    )
    monkeypatch.setattr(Bundle, "load", lambda: bundle)
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime", "onnxruntime"]})
    backend = SimpleNamespace(version="1.2.3", precisions=lambda: ("float32",))
    engine(monkeypatch, SimpleNamespace(OnnxRuntimeBackend=backend))
    auto(monkeypatch, None)


def engine(monkeypatch, module):
    """Let ONNX Runtime be this, and nothing else be installed."""

    def import_module(name):
        if name != "medseg_runtime.backends.onnxruntime_cpu":
            raise ModuleNotFoundError(name)
        if isinstance(module, Exception):
            raise module
        return module

    installed = doctor._installed
    monkeypatch.setattr(doctor, "import_module", import_module)
    monkeypatch.setattr(doctor, "_installed", lambda name: None if name == "openvino" else installed(name))


def auto(monkeypatch, why):
    choice = None if why is None else Choice(backend="openvino", precision="bfloat16", why=why)
    monkeypatch.setattr(doctor, "known_choice", lambda _: choice)


def run(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["medseg-doctor"])
    with pytest.raises(SystemExit) as exit_:
        doctor.main()
    return exit_.value.code, capsys.readouterr().out


@pytest.mark.usefixtures("healthy")
def test_healthy(monkeypatch, capsys):
    code, out = run(monkeypatch, capsys)
    assert code == 0
    assert "onnxruntime 1.2.3: float32" in out
    assert "openvino: not installed (pip install 'medseglatdiff[openvino]')" in out
    assert "toy, 2.5 MB, intact (sha256 abababababab...)" in out
    assert f"numpy {metadata.version('numpy')}" in out
    assert out.endswith("Nothing is broken.\n")


@pytest.mark.usefixtures("healthy")
def test_both_onnxruntimes(monkeypatch, capsys):
    both = {"onnxruntime": ["onnxruntime-gpu", "onnxruntime"]}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: both)
    code, out = run(monkeypatch, capsys)
    assert code == 1
    assert "problem: onnxruntime and onnxruntime-gpu share one folder" in out
    assert (
        "    pip uninstall --yes onnxruntime onnxruntime-gpu\n    pip install --force-reinstall 'medseglatdiff[cpu]'"
        in out
    )


@pytest.mark.usefixtures("healthy")
def test_no_engine(monkeypatch, capsys):
    monkeypatch.setattr(metadata, "packages_distributions", dict)
    engine(monkeypatch, ModuleNotFoundError("No module named 'onnxruntime'"))
    code, out = run(monkeypatch, capsys)
    assert code == 1
    assert "problem: no backend is installed\n    pip install 'medseglatdiff[cpu]'" in out
    assert "\nauto " not in out


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize("error", [AttributeError("no __version__"), ImportError("libfoo.so: cannot open")])
def test_a_damaged_onnxruntime(error, monkeypatch, capsys):
    engine(monkeypatch, error)
    code, out = run(monkeypatch, capsys)
    assert code == 1
    assert out.count("problem:") == 1
    assert "--force-reinstall" in out


@pytest.mark.usefixtures("healthy")
def test_a_damaged_bundle(monkeypatch, capsys):
    def load():
        raise BundleError("encoder.onnx is not the file that bundle.json describes", "Copy it again.")

    monkeypatch.setattr(Bundle, "load", load)
    code, out = run(monkeypatch, capsys)
    assert code == 1
    assert "problem: encoder.onnx is not the file" in out
    assert "--force-reinstall --no-deps" in out


@pytest.mark.usefixtures("healthy")
def test_a_broken_openvino(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_installed", lambda _: "2026.4.1")
    code, out = run(monkeypatch, capsys)
    assert code == 1
    assert "problem: openvino is installed and cannot be imported" in out
    assert "    pip install --force-reinstall 'medseglatdiff[openvino]'" in out


@pytest.mark.usefixtures("healthy")
def test_what_auto_would_take(monkeypatch, capsys):
    code, out = run(monkeypatch, capsys)
    assert "auto           compares the backends on first use" in out
    auto(monkeypatch, "50 ms against 100")
    code, out = run(monkeypatch, capsys)
    assert code == 0
    assert "auto           openvino in bfloat16: 50 ms against 100" in out


@pytest.mark.usefixtures("healthy")
def test_a_comparison_that_crashed(monkeypatch, capsys, cache_home):
    auto(monkeypatch, COMPARISON_UNFINISHED)
    code, out = run(monkeypatch, capsys)
    assert code == 1
    assert f"problem: a comparison of the backends crashed, or is still running\n    rm -r {cache_home}/choice" in out


@pytest.mark.usefixtures("healthy")
def test_the_cache(monkeypatch, capsys, cache_home, tmp_path):
    cache.store("openvino/one.blob", bytes(2_400_000))
    assert f"cache          {cache_home}, 2.4 MB in 1 files" in run(monkeypatch, capsys)[1]
    (tmp_path / "a file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    code, out = run(monkeypatch, capsys)
    assert code == 0
    assert "cache          no writable folder" in out


@pytest.mark.usefixtures("healthy")
def test_a_cache_that_others_can_write_to(monkeypatch, capsys, cache_home):
    cache.store("openvino/one.blob", bytes(100))
    cache_home.chmod(0o777)
    code, out = run(monkeypatch, capsys)
    assert code == 1
    assert "problem: the cache folder can be written by others (mode 777), so it is not used" in out
    assert f"    rm -r {cache_home} {cache_home}.key" in out


def test_the_processor(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx2 amx_bf16\n")
    text = str(processor(cpuinfo))
    assert text.startswith("Some CPU @ 2 GHz; ")
    assert text.endswith("; avx2, amx_bf16")
    assert "none of avx2" in str(processor(tmp_path / "absent"))


def test_requirements_come_from_our_own_metadata(monkeypatch):
    lines = [
        "numpy>=2",
        "onnxruntime>=1.28; extra == 'cpu'",
        'torch>=2.9 ; extra == "train"',
        "medseglatdiff[train]; extra == 'export'",
    ]
    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    assert doctor.requirements() == {"base": ["numpy"], "cpu": ["onnxruntime"], "train": ["torch"]}

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    assert "onnxruntime" in doctor.requirements()["cpu"]


def test_the_real_machine_is_examined_without_an_exception():
    assert len(doctor.diagnose().lines) >= 7


@pytest.mark.usefixtures("cache_home")
def test_a_read_only_cache_is_reported(monkeypatch):
    cache.store("kind/name", b"content")
    monkeypatch.setattr(cache, "writable", lambda: False)
    (line,) = [line for line in doctor.diagnose().lines if line.startswith("cache")]
    assert "1 files, read-only" in line
