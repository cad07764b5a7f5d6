"""Who may read what is written: the umask decides, and DICOM objects and unfinished results are never for everybody."""

import os
import subprocess
import sys
from pathlib import Path
from stat import S_IMODE

import pytest

from medseg_runtime.files.publish import FolderKind, published
from medseg_runtime.files.replace import replacing

WRITE = """
import os, sys
from pathlib import Path
from pydicom.data import get_testdata_file
from medseg_runtime.testing import toy_segmenter
os.umask(int(sys.argv[1], 8))
image = get_testdata_file("CT_small.dcm", download=False)
toy_segmenter()(image, samples=2).save(Path("out"), dicom_seg=True)
"""
KIND = FolderKind("thing", "mark", frozenset({"mark"}))


@pytest.fixture
def umask():
    """A function that sets the umask until the test ends."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path):
    return S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077])
def test_a_result_follows_the_umask_and_its_dicom_is_not_for_others(tmp_path, mask):
    pytest.importorskip("highdicom", reason="highdicom writes the DICOM objects")
    subprocess.run([sys.executable, "-c", WRITE, f"{mask:o}"], cwd=tmp_path, check=True)
    out = tmp_path / "out"
    assert len(list((out / "dicom").iterdir())) == 4
    for path in (out, *out.rglob("*")):
        default = 0o777 if path.is_dir() else 0o666
        allowed = default & ~0o027 if "dicom" in path.parts else default
        assert mode(path) == allowed & ~mask, path


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_folder_is_private_until_it_is_whole(tmp_path, umask, mask):
    umask(mask)
    with published(tmp_path / "out", KIND, force=False) as folder:
        assert mode(folder) == 0o700
        (folder / "mark").write_bytes(b"x")
    assert mode(tmp_path / "out") == 0o777 & ~mask


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_replaced_file_follows_the_umask(tmp_path, umask, mask):
    umask(mask)
    path = tmp_path / "weights"
    with replacing(path) as temporary:
        temporary.unlink()  # as libraries do
        os.close(os.open(temporary, os.O_CREAT, 0o777))
    assert mode(path) == 0o666 & ~mask
    with replacing(path, mode=0o600) as temporary:
        assert mode(temporary) == 0o600
    assert mode(path) == 0o600 & ~mask


def test_weights_follow_the_umask(tmp_path, umask):
    torch = pytest.importorskip("torch")
    from medseg_trainer.training.run_files import save_safetensors

    umask(0o077)
    save_safetensors(Path(tmp_path, "weights.safetensors"), {"a": torch.zeros(2)}, {})
    assert mode(tmp_path / "weights.safetensors") == 0o600
