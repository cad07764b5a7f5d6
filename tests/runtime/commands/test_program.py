"""What the commands print is text, whatever a file holds."""

import json

import numpy as np
import pytest
from PIL import Image

ESCAPE = "\x1b]0;owned\x07\u202e"


@pytest.fixture
def image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save("image.png")
    return "image.png"


def edited(folder, change):
    path = folder / "bundle.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False))


CHANGES = {
    "a key": lambda content: content.update({ESCAPE: 1}),
    "a class": lambda content: content.update(classes=[f"nodule{ESCAPE}"]),
    "a task": lambda content: content.update(task=f"nothing{ESCAPE}"),
    "a name": lambda content: content.update(name=f"tiny{ESCAPE}"),
    "a file": lambda content: content["graphs"]["encoder"].update(file=f"en{ESCAPE}coder.onnx"),
    "a sampler": lambda content: content["sampling"].update(sampler=ESCAPE),
    "an input": lambda content: content["graphs"]["encoder"]["inputs"].update({ESCAPE: [1]}),
    "a version": lambda content: content.update(schema_version=ESCAPE),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["line", "json"])
def test_nothing_in_a_bundle_reaches_the_terminal(tiny, tmp_path, image, run_command, change, options):
    from medseg_runtime.commands.infer import main

    pytest.importorskip("onnxruntime")
    (tmp_path / "bundle").mkdir()
    edited(tiny.write_bundle(tmp_path / "bundle"), change)
    command = ("medseg-infer", image, "--bundle", "bundle", "--backend", "onnxruntime", "--out", "out", *options)
    _, out, err = run_command(main, *command)
    assert out or err
    assert all(line.isprintable() for line in (out + err).splitlines())


def test_onnx_runtime_prints_nothing_to_stdout(tiny, tmp_path, image, run_command, monkeypatch):
    """Left alone it prints `EP Error`, and tries the same again, where the system refuses it threads or memory."""
    onnxruntime = pytest.importorskip("onnxruntime")
    from medseg_runtime.commands.infer import main

    def refused(*_):
        raise RuntimeError("pthread_create failed")

    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", refused)
    (tmp_path / "bundle").mkdir()
    tiny.write_bundle(tmp_path / "bundle")
    command = ("medseg-infer", image, "--bundle", "bundle", "--backend", "onnxruntime", "--json")
    code, out, err = run_command(main, *command)
    assert (code, out) == (1, "")
    assert "cannot load encoder.onnx: " in err
