"""Studies in a zip."""

import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from medseg_runtime import ImageError, read_series
from medseg_runtime.files import zip_file
from medseg_runtime.readers.dicom import study_files

SIZE = 64 << 20


def encrypted(path):
    content = bytearray(path.read_bytes())
    for start, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.find(start)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(start, at + 4)
    path.write_bytes(content)


def claiming(size):
    def write(path):
        content = bytearray(path.read_bytes())
        at = content.index(b"PK\1\2")
        content[at + 24 : at + 28] = struct.pack("<I", size)
        path.write_bytes(content)

    return write


def nameless(path):
    """What `zipfile` does not write: an entry whose name has no letter."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x", b"")
        archive.infolist()[-1].filename = ""


BAD_ZIPS = {
    "a file without a name": (nameless, "holds a file without a name"),
    "encrypted": (encrypted, "with its password"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:9999]), "the zip is damaged"),
    "a flipped bit": (lambda path: path.write_bytes(path.read_bytes()[:500] + b"\xff\0\xff" + path.read_bytes()[503:]), "damaged"),
    "a file of 4 GiB": (claiming(0xFFFFFFF0), "more than 1 GiB"),
    "another size": (claiming(100), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ZIPS)
def test_zips_that_cannot_be_read_are_one_message(name, five_slices, tmp_path, zip_of):
    spoil, problem = BAD_ZIPS[name]
    path = zip_of(five_slices, tmp_path / "study.zip")
    spoil(path)
    with pytest.raises(ImageError, match=problem):
        read_series(path)


def test_a_zip_of_much_is_refused_before_it_is_read(five_slices, tmp_path, monkeypatch, zip_of):
    path = zip_of(five_slices, tmp_path / "study.zip")
    monkeypatch.setattr(study_files, "MAX_ZIP_BYTES", 100_000)
    with pytest.raises(ImageError, match="Unpack it"):
        read_series(path)
    empty = tmp_path / "empty.zip"
    zipfile.ZipFile(empty, "w").close()
    with pytest.raises(ImageError, match="holds no DICOM image"):
        read_series(empty)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_cannot_be_read_in_part_are_refused(method, tmp_path):
    """A kilobyte that claims 200 bytes would be unpacked to 64 MiB, or to gigabytes."""
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("IM1.dcm", bytes(128) + b"DICM" + bytes(SIZE))
    claiming(200)(path)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=r"compressed in a way that cannot be read here. Unpack it"):
            read_series(path)
        assert tracemalloc.get_traced_memory()[1] < SIZE / 8
    finally:
        tracemalloc.stop()


def test_a_zip_that_lists_too_many_files_is_refused_before_the_list_is_read(tmp_path, monkeypatch):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20):
            archive.writestr(f"{number}.txt", b"")
    with pytest.raises(ImageError, match="holds no DICOM image"):
        read_series(path)
    monkeypatch.setattr(study_files, "MAX_ZIP_FILES", 19)
    with pytest.raises(ImageError, match=r"the zip holds 20 files, more than 19. Zip the slices"):
        read_series(path)
    monkeypatch.setattr(zip_file, "MAX_LIST_BYTES", 500)
    with pytest.raises(ImageError, match=r"too many files: its list of files has 0 MiB. Zip the slices"):
        read_series(path)


def test_a_zip_of_a_later_version_is_refused(five_slices, tmp_path, zip_of):
    path = zip_of(five_slices, tmp_path / "study.zip")
    packed = bytearray(path.read_bytes())
    packed[packed.index(b"PK\1\2") + 6] = 245  # the version that is needed to extract it: 24.5
    path.write_bytes(packed)
    with pytest.raises(ImageError, match="the zip is damaged or cut short"):
        read_series(path)


def test_slices_of_a_zip_are_those_of_its_folder(five_slices, tmp_path, zip_of):
    packed, plain = read_series(zip_of(five_slices, tmp_path / "study.zip")), read_series(five_slices)
    for index in range(5):
        one, other = packed.read(index), plain.read(index)
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert (one.sha256, one.plane, one.kind) == (other.sha256, other.plane, other.kind)
