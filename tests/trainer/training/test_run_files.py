"""Files of a run: an error leaves the old file whole."""

import shutil

import pytest
from safetensors import SafetensorError

from medseg_runtime.errors import OutputError
from medseg_trainer.training import run_files
from medseg_trainer.training.run_folder import RunFolder


def test_a_full_disk_is_one_error_and_leaves_the_old_file(reference, tmp_path, monkeypatch):
    run = shutil.copytree(reference, tmp_path / "run")
    before = (run / "denoiser.safetensors").read_bytes()

    def full(_tensors, path, _metadata):
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(run_files, "save_file", full)
    with pytest.raises(OutputError, match=r"denoiser.safetensors cannot be written: .*No space left.*same command"):
        RunFolder(run).save_weights("denoiser", {}, {})
    assert (run / "denoiser.safetensors").read_bytes() == before
    assert not list(run.glob(".*"))
