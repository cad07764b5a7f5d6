"""Shared fixtures, and versions and CPU features in the header."""

import importlib.util
import os
import sys
import zipfile
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported; threads that spin starve each other
ROOT = Path(__file__).parents[1]
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # a test must not fail because the machine is at work
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutations", type=int, default=2000, help="mutated files for each reader in test_fuzz.py")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config, log):
    """Send a file to one process, and all of the exporter's files to the same one: they share what is trained and exported."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/export" if nodeid.startswith("tests/export/") else nodeid.partition("::")[0]

    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests with OHIF out unless `-m` names them."""
    if "ohif" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("ohif")]
        items[:] = [item for item in items if not item.get_closest_marker("ohif")]
        config.hook.pytest_deselected(items=left_out)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("bfloat16") and not multiplies_in_bfloat16():
        pytest.skip("OpenVINO does not multiply in bfloat16 here: that takes AMX or AVX-512 BF16")


@cache
def multiplies_in_bfloat16() -> bool:
    from medseg_runtime.backends.openvino.backend import OpenVinoBackend

    return "bfloat16" in OpenVinoBackend.precisions()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory) -> None:
    """Use a cache folder of the test run, also in the commands that tests start."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def run_command(monkeypatch, capsys):
    """run_command(main, name, *arguments) -> (exit code, stdout, stderr)."""

    def run(main, name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def mutations(request) -> int:
    return request.config.getoption("--mutations")


def pytest_report_header() -> str:
    def installed(name: str) -> str:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return f"{name} absent"

    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    packages = ", ".join(installed(name) for name in ("numpy", "onnxruntime", "openvino", "torch", "onnx", "pydicom"))
    return f"medseglatdiff: {packages}; CPU: {' '.join(f for f in CPU_FEATURES if f in flags) or 'baseline'}"


@pytest.fixture(scope="session")
def phantom() -> ModuleType:
    """The generator of synthetic nodules, examples/phantom.py."""
    spec = importlib.util.spec_from_file_location("phantom", ROOT / "examples" / "phantom.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["phantom"] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def lidc_zips() -> Path:
    """The folder with the real LIDC-IDRI crops, which are not part of the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not (folder / "lidc-val-0.zip").exists():
        pytest.skip(f"no LIDC-IDRI crops: {folder}/lidc-val-0.zip is absent")
    return folder


@pytest.fixture(scope="session")
def phantom_zips(phantom, tmp_path_factory) -> Path:
    """A folder with lidc-train-0.zip and lidc-val-0.zip, drawn by the generator."""
    folder = tmp_path_factory.mktemp("phantom-zips")
    for split, patients, seed in (("train", 6, 1), ("val", 3, 2)):
        root = phantom.write_dataset(tmp_path_factory.mktemp(split), num_patients=patients, seed=seed)
        with zipfile.ZipFile(folder / f"lidc-{split}-0.zip", "w") as archive:
            for path in sorted(root.rglob("*.png")):
                name = path.relative_to(root.parent).as_posix()
                archive.write(path, name.replace("PHANTOM", f"PHANTOM-{split}"))
    return folder


@pytest.fixture(scope="session")
def micro():
    """The smallest training of every stage: micro(field=value, ...) is a `TrainConfig`; three steps a stage unless told otherwise, and no tuning."""
    pytest.importorskip("torch")
    from medseg_runtime.model.preprocess import InputRule
    from medseg_trainer.config.presets import tiny
    from medseg_trainer.config.run import Optimisation

    def build(*, steps=3, **changes):
        base = tiny()
        optimisation = Optimisation(steps=steps, batch_size=4, learning_rate=1e-3, warmup_steps=2, ema_decay=0.9)
        small = replace(
            base,
            name="micro",
            input=InputRule(channels=1, height=32, width=32, geometry="native", intensity="minmax", context=64),
            mask_autoencoder=replace(base.mask_autoencoder, width=16, optimisation=optimisation),
            condition=replace(base.condition, widths=(8, 16), channels=8, dropout=0.0),
            denoiser=replace(
                base.denoiser, optimisation=optimisation, widths=(16, 32), time_features=16, raters_per_image=2
            ),
            precision="32-true",
            validate_every=2,
            validation_images=2,
            validation_samples=3,
            energy=None,
        )
        return replace(small, **changes)

    return build
