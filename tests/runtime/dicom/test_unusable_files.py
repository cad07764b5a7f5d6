"""Files of a series that cannot be used: each is named, and none is passed over in silence."""

import gzip

import pydicom
import pytest

from medseg_runtime import ImageError, ParameterError, read_series
from medseg_runtime.readers.image import images_in
from medseg_runtime.readers.target import Location, read_target


@pytest.fixture
def folder(five_slices):
    return five_slices


def warnings_of(series):
    return series.read(0).warnings


def without_preamble(path):
    path.write_bytes(path.read_bytes()[132:])


def without_anything_before_group_8(path):
    content = path.read_bytes()
    path.write_bytes(content[content.index(b"\x08\0\x05\0CS") :])


def zipped(path):
    path.with_suffix(".dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def zipped_without_a_name(path):
    path.with_suffix("").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def cut(share):
    def half(path):
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return half


def renamed(content, name):
    def write(path):
        path.unlink()
        (path.parent / name).write_bytes(content)

    return write


def compressed_and_cut(path):
    dataset = pydicom.dcmread(path)
    dataset.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    dataset.save_as(path)
    cut(0.9)(path)


UNUSABLE = {
    "no preamble": (without_preamble, "IM2.dcm", "lacks its preamble"),
    "no meta information": (without_anything_before_group_8, "IM2.dcm", "lacks its preamble"),
    "no preamble and another name": (
        lambda path: (without_preamble(path), path.rename(path.parent / "slice2.bin")), "slice2.bin", "lacks its preamble",
    ),
    "gzip": (zipped, "IM2.dcm.gz", "compressed"),
    "gzip of any name": (zipped_without_a_name, "IM2", "compressed"),
    "the pixels cut short": (cut(0.9), "IM2.dcm", "cut short"),
    "the header cut short": (cut(0.02), "IM2.dcm", "cut short"),
    "the header cut in an element": (cut(0.0222), "IM2.dcm", "cut short"),
    "compressed pixels cut short": (compressed_and_cut, "IM2.dcm", "cut short"),
    "empty": (cut(0), "IM2.dcm", "empty"),
    "an error page": (lambda path: path.write_text("<html>404</html>"), "IM2.dcm", "not DICOM"),
    "zeros": (lambda path: path.write_bytes(bytes(5000)), "IM2.dcm", "not DICOM"),
    "half a download": (renamed(bytes(5000), "IM2.dcm.part"), "IM2.dcm.part", "not DICOM"),
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("name", UNUSABLE)
def test_a_file_that_cannot_be_used_is_named(name, packed, folder, tmp_path, zip_of):
    spoil, file, problem = UNUSABLE[name]
    spoil(folder / "IM2.dcm")
    study = zip_of(folder, tmp_path / "study.zip") if packed else folder
    with pytest.raises(ImageError, match=f"^{file}: .*{problem}") as caught:
        read_series(study)
    assert not caught.value.problem.endswith(".")


def test_several_files_that_cannot_be_used_are_one_error(folder):
    for path in folder.iterdir():
        without_preamble(path)
    with pytest.raises(ImageError, match=r"^IM0\.dcm: .*; IM1\.dcm: .*; IM2\.dcm: .*; and 2 more\. Save such files"):
        read_series(folder)


def test_slices_that_are_all_packed_have_one_remedy(folder):
    for path in folder.iterdir():
        path.with_suffix(".dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    with pytest.raises(ImageError, match=r"and 2 more\. Unpack such files first\.$"):
        read_series(folder)


def test_slices_in_a_hidden_folder_and_zips_are_counted(folder):
    (folder / ".trash").mkdir()
    (folder / "IM0.dcm").rename(folder / ".trash" / "IM0.dcm")
    (folder / "more.zip").write_bytes(b"PK\3\4 and so on")
    assert warnings_of(read_series(str(folder)))[0] == "passed over as no image: 1 hidden folder, 1 zip"


def test_what_was_passed_over_is_said_where_nothing_is_left(tmp_path):
    (tmp_path / "inner.zip").write_bytes(b"PK\3\4 and so on")
    with pytest.raises(ImageError, match="no DICOM image; passed over as no image: 1 zip"):
        read_series(tmp_path)


def test_slices_that_do_not_go_together_are_named(folder, write_slice):
    write_slice(folder / "again.dcm", 5, uid="1.2.99")
    with pytest.raises(ImageError, match=r"in one place, as in a dynamic study: \S+\.dcm and \S+\.dcm"):
        read_series(folder)
    (folder / "again.dcm").unlink()
    localizer = pydicom.dcmread(write_slice(folder / "localizer.dcm", 0, uid="1.2.99"))
    localizer.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    localizer.save_as(folder / "localizer.dcm")
    with pytest.raises(ImageError, match=r"as with a localizer: .*localizer\.dcm"):
        read_series(folder)


@pytest.mark.parametrize("name", ["", "IM2.dcm"])
def test_a_point_beside_the_slices_is_told_in_its_own_terms(name, folder):
    with pytest.raises(
        ParameterError, match=r"beside the image, at -\S+ of its 128x128 px\. .*NIfTI's are to the right"
    ):
        read_target(folder / name, Location(center_mm=(-30.0, 40.0, 10.0)))


def test_an_unreadable_file_is_named(folder, monkeypatch):
    from pathlib import Path

    real = Path.open

    def refusing(path, *arguments, **options):
        if path.name == "IM2.dcm":
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refusing)  # root may read everything
    with pytest.raises(ImageError, match=r"IM2\.dcm cannot be read: Permission denied"):
        read_series(folder)


def test_a_link_to_nowhere_is_named(folder, tmp_path):
    (folder / "IM2.dcm").unlink()
    (folder / "IM2.dcm").symlink_to(tmp_path / "gone")
    with pytest.raises(ImageError, match=r"IM2\.dcm is a link to a file that is not there"):
        read_series(folder)
    assert [path.name for path in images_in(folder).paths] == [f"IM{index}.dcm" for index in range(5)]


def test_an_unknown_file_named_like_the_slices_is_named(write_slice, tmp_path):
    for index in range(3):
        write_slice(tmp_path / f"IM{index}", 5 * index)
    (tmp_path / "IM3").write_bytes(bytes(5000))
    with pytest.raises(ImageError, match=r"^IM3: .*named like the slices"):
        read_series(tmp_path)
    (tmp_path / "IM3").rename(tmp_path / "IM3.cache")
    assert warnings_of(read_series(tmp_path))[0] == "passed over as no image: 1 not DICOM"
