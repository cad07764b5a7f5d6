"""Data sets that somebody made to break a reader: one typed error, no wait, and no more memory than a picture takes."""

import os
import struct
import tracemalloc
import warnings
import zipfile

import pytest

from medseg_runtime.errors import DataError
from medseg_runtime.files.zip_file import SPLIT, BoundedZip
from medseg_trainer.data.archive import MAX_MEMBER_BYTES, files_in_folder, files_in_zips
from medseg_trainer.data.layouts import read_cases
from medseg_trainer.data.lidc import RATERS, ROOT
from tests.trainer.data.own_folder import MASK, PHOTO, build, encoded, pairs

SIZE = 64 << 20
CLAIMED = 1000


def zipped(path, files, method=zipfile.ZIP_DEFLATED):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # of a name that is there already
        for name, content in files:
            archive.writestr(name, content)
    return path


def test_a_zip_whose_header_lies_is_not_extracted_beyond_it(tmp_path):
    path = zipped(tmp_path / "a.zip", [("zeros", bytes(SIZE))])
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", SIZE), struct.pack("<L", CLAIMED)))
    read = files_in_zips([path])["zeros"]
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"a\.zip cannot be read: Bad CRC"):
            read()
        assert tracemalloc.get_traced_memory()[1] < SIZE / 8
    finally:
        tracemalloc.stop()


def test_a_file_of_a_zip_may_not_be_larger_than_a_picture_is(tmp_path):
    path = zipped(tmp_path / "a.zip", [("zeros", bytes(SIZE))])
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", SIZE), struct.pack("<L", MAX_MEMBER_BYTES + 1)))
    with pytest.raises(DataError, match=r"a\.zip: zeros has 256 MiB. Remove it"):
        files_in_zips([path])["zeros"]()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_cannot_be_read_in_part_are_refused(method, tmp_path):
    path = zipped(tmp_path / "a.zip", [("mask.png", encoded(MASK))], method)
    with pytest.raises(DataError, match=r"mask\.png is compressed with another method than deflate. Zip it again"):
        files_in_zips([path])["mask.png"]()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_whole_zip_is_read_as_it_is(method, tmp_path):
    content = encoded(PHOTO)
    assert files_in_zips([zipped(tmp_path / "a.zip", [("a.png", content)], method)])["a.png"]() == content


def test_a_zip_that_holds_a_name_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.zip holds mask\.png twice"):
        files_in_zips([zipped(tmp_path / "a.zip", [("mask.png", b"1"), ("mask.png", b"2")])])


def test_names_that_lead_out_of_a_zip_are_only_names(tmp_path):
    (tmp_path / "in").mkdir()
    path = zipped(tmp_path / "in" / "a.zip", [("../x", b"1")])
    assert files_in_zips([path])["../x"]() == b"1"
    assert not (tmp_path / "x").exists()


def test_a_name_of_a_zip_that_is_not_in_utf_8_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", [("é.png", b"1")])
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(DataError, match=r"a\.zip cannot be read"):
        files_in_zips([path])


def listing(entry, count):
    """A zip whose list has an entry many times."""
    return entry * count + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(entry) * count, 0, 0)


def test_a_zip_of_a_million_files_is_refused_before_the_list_is_read(tmp_path):
    (tmp_path / "a.zip").write_bytes(listing(struct.pack("<4s6H3L5H2Lc", b"PK\1\2", *[0] * 16, b"x"), 1_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(
            DataError, match=r"a\.zip holds too many files: its list of files has 45 MiB. Pack them into"
        ):
            files_in_zips([tmp_path / "a.zip"])
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_an_encrypted_zip_says_so(tmp_path):
    path = zipped(tmp_path / "a.zip", [("mask.png", encoded(MASK))])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip is encrypted. Unpack it with its password"):
        files_in_zips([path])["mask.png"]()


def test_a_part_of_a_zip_says_so(tmp_path):
    whole = zipped(tmp_path / "a.zip", [("mask.png", encoded(MASK))], zipfile.ZIP_STORED).read_bytes()
    last, first = tmp_path / "b.zip", tmp_path / "b.z01"
    first.write_bytes(SPLIT + whole[:60])
    last.write_bytes(whole[60:])
    with pytest.raises(
        DataError, match=r"b\.zip is one part of a zip in several. Join the parts first: `zip -s 0 b\.zip"
    ):
        files_in_zips([last])["mask.png"]()
    first.rename(tmp_path / "c.zip")
    with pytest.raises(DataError, match=r"c\.zip is one part of a zip in several"):
        files_in_zips([tmp_path / "c.zip"])
    with pytest.raises(DataError, match=r"b\.zip cannot be read: .*Copy or download it again"):
        files_in_zips([last])["mask.png"]()


def test_the_file_of_a_zip_is_closed_with_it(tmp_path):
    path = zipped(tmp_path / "a.zip", [("a.png", b"1")])
    with BoundedZip(path) as archive:
        assert archive.read("a.png") == b"1"
    assert archive._file.closed
    with pytest.raises(FileNotFoundError):
        BoundedZip(tmp_path / "b.zip")


NO_FILES = {
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to nowhere": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_zip_is_refused_at_once(make, tmp_path):
    make(tmp_path / "lidc-train-0.zip")
    with pytest.raises(DataError, match=r"lidc-train-0\.zip: "):
        read_cases(tmp_path, "train", 1)


def test_a_file_larger_than_any_picture_is_not_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    os.truncate(tmp_path / "a.png", 6 << 30)
    with pytest.raises(DataError, match=r"a\.png: the file has 6.0 GiB"):
        files_in_folder(tmp_path)["a.png"]()


def test_pipes_and_devices_in_a_folder_are_passed_over(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    assert files_in_folder(tmp_path) == {}


@pytest.mark.parametrize("patient", ["²", "9" * 200, "a\nb", os.fsdecode(b"\xff")], ids=repr)
def test_patients_of_any_name_are_read(patient, tmp_path):
    for name in (patient, "P1"):
        files = {f"{ROOT}/{name}/nodule-1/images/slice-1.png": PHOTO}
        files |= {f"{ROOT}/{name}/nodule-1/mask-{rater}/slice-1.png": MASK for rater in range(RATERS)}
        build(tmp_path, files, splits=None)
    found = [read_cases(tmp_path, split, 1) for split in ("train", "val", "test") if _has(tmp_path, split)]
    assert sum(map(len, found)) == 2
    assert all(len(cases.names_sha256) == 64 for cases in found)


def _has(data, split):
    try:
        return bool(read_cases(data, split, 1))
    except DataError:
        return False


def test_frames_of_more_digits_than_a_number_may_have_are_passed_over(tmp_path):
    root, long = "CVC-ClinicDB/PNG", "9" * 5000
    files = [
        (f"{root}/{folder}/{f}.png", encoded(v))
        for f in ("1", long)
        for folder, v in (("Original", PHOTO), ("Ground Truth", MASK))
    ]
    zipped(tmp_path / "cvc-clinicdb-train-0.zip", [*files, ("CVC-ClinicDB/sequences.csv", "frame,sequence\n1,1\n")])
    assert [case.name for case in read_cases(tmp_path, "train", 1)] == ["1"]


def test_a_name_that_is_not_in_utf_8_is_refused_where_a_table_names_images(tmp_path):
    data = build(tmp_path, pairs("a", "b"))
    os.rename(os.fsencode(data / "images/a.png"), os.fsencode(data) + b"/images/\xff.png")  # noqa: PTH104 - bytes
    with pytest.raises(DataError, match=r"below images/ is not in UTF-8. Rename it"):
        read_cases(data, "train", 1)
