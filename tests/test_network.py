"""No command opens a network connection: strace sees the system calls of every library, not of Python alone."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NETWORK = ("AF_INET", "AF_INET6", "AF_PACKET")
DATAGRAM = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'.', ('127.0.0.1', 9))"


def command(module, *arguments):
    return [sys.executable, "-c", f"from {module} import main; main()", *map(str, arguments)]


def infer(backend, out):
    image = ROOT / "examples" / "nodule-phantom.png"
    return command("medseg_runtime.commands.infer", image, "--backend", backend, "--samples", 2, "--out", out)


@pytest.fixture
def sockets(tmp_path):
    """sockets(command): the lines of strace that name a network, of the command and all that it starts."""
    tracer = [shutil.which("strace") or pytest.skip("strace is absent"), "--follow-forks", "--seccomp-bpf"]
    log = tmp_path / "calls.txt"
    probe = subprocess.run([*tracer, "--output", log, "true"], check=False, capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"strace may not trace here: {probe.stderr[:80]}")

    def run(command):
        environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
        watched = [*tracer, "--trace", "%network", "--output", log]
        subprocess.run([*watched, *command], check=True, capture_output=True, env=environment, cwd=tmp_path)
        return [line for line in log.read_text().splitlines() if any(family in line for family in NETWORK)]

    return run


def test_a_datagram_is_seen(sockets):
    assert sockets([sys.executable, "-c", DATAGRAM])


@pytest.mark.parametrize(("backend", "library"), [("onnxruntime", "onnxruntime"), ("openvino", "openvino")])
def test_inference_opens_no_connection(sockets, tmp_path, backend, library):
    if find_spec(library) is None:
        pytest.skip(f"{library} is absent")
    assert sockets(infer(backend, tmp_path / "out")) == []
    assert (tmp_path / "out" / "result.json").exists()


def test_the_doctor_opens_no_connection(sockets):
    assert sockets(command("medseg_runtime.commands.doctor")) == []


@pytest.mark.slow
def test_training_and_export_open_no_connection(sockets, micro, phantom_zips, tmp_path):
    program = (
        "import sys; from pathlib import Path; from medseg_trainer.config.run import TrainConfig; from medseg_trainer.training.loop import fit; "
        "fit(TrainConfig.from_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), command='')"
    )
    pytest.importorskip("onnxscript")
    run = tmp_path / "run"
    assert sockets([sys.executable, "-c", program, micro().to_json(), str(phantom_zips), str(run)]) == []
    assert sockets(command("medseg_export.cli", "--ckpt", run, "--out", tmp_path / "bundle")) == []
    assert (tmp_path / "bundle" / "bundle.json").exists()
