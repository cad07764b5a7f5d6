"""Objects on disk, whole and private."""

import os
import stat
import time

import pydicom
import pytest

from medseg_runtime.errors import ImageError, OutputError
from medseg_service.node.job import State
from medseg_service.node.object_store import ObjectStore, is_uid, parse_object


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_object_is_kept_as_it_came_and_nobody_else_may_read_it(objects, image, as_file):
    content = as_file(image())
    received = parse_object(content)
    objects.save(received)
    (path,) = files(objects.folder)
    assert path == objects.path(received.study, received.series, received.instance)
    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(objects.instances(received.study, received.series)) == [received.instance]
    assert objects.series_of(received.study, received.instance) == received.series


def test_a_corrected_object_replaces_the_first(objects, image, as_file):
    for name in ("A", "B"):
        objects.save(parse_object(as_file(image(PatientName=name))))
    (path,) = files(objects.folder)
    assert pydicom.dcmread(path).PatientName == "B"


@pytest.mark.parametrize("length", [0, 100, 132, 1000, 20000])
def test_what_is_cut_short_is_refused(image, as_file, length):
    with pytest.raises(ImageError):
        parse_object(as_file(image())[:length])


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2/3", "", "1.2.", "1" * 65])
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_uid_that_is_no_uid_never_becomes_a_path(image, as_file, keyword, uid):
    assert not is_uid(uid)
    with pytest.raises(ImageError, match=f"{keyword} is absent or not valid"):
        parse_object(as_file(image(**{keyword: uid})))


def test_a_newline_is_no_part_of_a_uid():
    assert not is_uid("1.2\n")


def test_a_data_set_that_inflates_without_end_is_refused(image, as_file):
    image = image()
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    image.PixelData = bytes(80 << 20)
    with pytest.raises(ImageError, match="holds more than its header states"):
        parse_object(as_file(image))


def test_a_full_disk_is_refused_before_anything_is_written(database, tmp_path, image, as_file):
    objects = ObjectStore(database, tmp_path / "objects", free_bytes=1 << 60)
    with pytest.raises(OutputError, match="almost full"):
        objects.save(parse_object(as_file(image())))
    assert files(objects.folder) == []


def test_a_write_that_fails_leaves_nothing(objects, image, as_file, monkeypatch):
    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    received = parse_object(as_file(image()))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="No space left"):
        objects.save(received)
    monkeypatch.undo()
    assert files(objects.folder.parent / "incoming") == files(objects.folder) == []
    assert objects.instances(received.study, received.series) == {}


def test_what_a_killed_node_left_is_removed(database, objects, tmp_path):
    (tmp_path / "incoming" / "half").write_bytes(b"half")
    ObjectStore(database, objects.folder, free_bytes=0)
    assert files(tmp_path / "incoming") == []


def test_only_series_that_no_job_names_are_removed(objects, jobs, image, as_file, caller, order):
    for number in range(2):
        objects.save(parse_object(as_file(image(number))))
    kept = parse_object(as_file(image(0)))
    job, _ = jobs.submit(order().from_json({"origin": "rest", "study": kept.study, "series": kept.series}), caller)
    assert objects.remove_unused(time.time() - 60) == 0
    assert objects.remove_unused(time.time() + 1) == 1
    assert files(objects.folder) == [objects.path(kept.study, kept.series, kept.instance)]
    jobs.move(job, State.DONE)
    jobs.forget(jobs.get(job.id))
    assert objects.remove_unused(time.time() + 1) == 1
    assert list(objects.folder.iterdir()) == []


def test_an_instance_in_two_series_is_not_guessed(objects, image, as_file):
    for series in ("1.2.1", "1.2.2"):
        objects.save(parse_object(as_file(image(SeriesInstanceUID=series))))
    source = image()
    with pytest.raises(ImageError, match="2 series"):
        objects.series_of(source.StudyInstanceUID, source.SOPInstanceUID)
