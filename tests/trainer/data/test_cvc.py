"""CVC-ClinicDB: every published layout gives the same cases, and missing files are named."""

import shutil

import pytest

from medseg_trainer.data.layouts import layout_of, read_cases
from medseg_trainer.data.splits import hashed_split
from tests.trainer.data.photographs import names, zipped
from tests.trainer.readers import cases, refuses


def sequences(data, **split_of):
    lines = "".join(f"{name.removeprefix('s')},{split}\n" for name, split in split_of.items())
    (data / "splits.csv").write_text("sequence,split\n" + lines)
    return data


PUBLISHED = {
    "PNG": ((("CVC-ClinicDB/PNG", "png"),), "CVC-ClinicDB/sequences.csv"),
    "TIF": ((("CVC-ClinicDB/TIF", "tif"),), "CVC-ClinicDB/sequences.csv"),
    "PNG and TIF": ((("CVC-ClinicDB/PNG", "png"), ("CVC-ClinicDB/TIF", "tif")), "CVC-ClinicDB/sequences.csv"),
    "bare TIF": ((("", "tif"),), "sequences.csv"),
    "no part": ((("CVC-ClinicDB", "tiff"),), "CVC-ClinicDB/sequences.csv"),
}


@pytest.mark.parametrize("published", PUBLISHED)
def test_cvc_is_read_in_every_layout_it_comes_in(published, cvc_folder):
    parts, table = PUBLISHED[published]
    data = sequences(cvc_folder(parts=parts, table=table), s1="train", s2="val", s3="train")
    found = cases(data)
    assert layout_of(data).name == "CVC-ClinicDB"
    assert [(c.name, c.group) for c in found] == [
        ("7", "sequence-1"),
        ("8", "sequence-1"),
        ("11", "sequence-3"),
        ("12", "sequence-3"),
    ]
    assert names(data, "val") == ["9", "10"]
    assert (found[0].image.shape, found[0].masks.shape, found[0].masks.sum()) == ((12, 16, 3), (1, 12, 16), 9)


def test_where_png_and_tif_are_there_the_png_is_read(cvc_folder):
    parts, table = PUBLISHED["PNG and TIF"]
    data = sequences(cvc_folder(parts=parts, table=table), s1="train", s2="val", s3="train")
    shutil.rmtree(data / "CVC-ClinicDB/TIF/Ground Truth")
    assert len(cases(data)) == 4


def test_cvc_zips_of_a_split_hold_it_whole(cvc_folder, tmp_path):
    for part, frames in (("train-0", range(7, 9)), ("train-1", range(9, 11)), ("val-0", range(11, 13))):
        zipped(cvc_folder(tmp_path / part, frames=frames), tmp_path / f"cvc-clinicdb-{part}.zip")
        shutil.rmtree(tmp_path / part)
    assert [names(tmp_path, split) for split in ("train", "val")] == [["7", "8", "9", "10"], ["11", "12"]]
    refuses("no CVC-ClinicDB frames of the split 'test'", tmp_path, "test")


def test_a_sequence_that_no_table_names_is_split_by_its_hash(cvc_folder):
    data = cvc_folder()
    found = {split: {c.group for c in read_cases(data, split, 1)} for split in ("train",)}
    assert found["train"] == {f"sequence-{k}" for k in (1, 2, 3) if hashed_split(f"sequence-{k}") == "train"} != set()


def test_cvc_without_its_sequences_is_refused(cvc_folder):
    data = cvc_folder(table=None)
    refuses(r"sequences.csv is missing.*Put it into CVC-ClinicDB/", data)
    (data / "CVC-ClinicDB" / "sequences.csv").write_text("frame,sequence\n7,1\n8,1\n9,1\n10,1\n")
    refuses("does not say which video frame 11 is from", data)
    (data / "CVC-ClinicDB" / "sequences.csv").write_text("frame\n7\n")
    refuses("no columns frame and sequence", data)


def test_a_cvc_frame_without_a_mask_is_named(cvc_folder):
    data = sequences(cvc_folder(), s1="train", s2="train", s3="train")
    (data / "CVC-ClinicDB/PNG/Ground Truth/9.png").unlink()
    refuses("1 masks are missing, the first is CVC-ClinicDB/PNG/Ground Truth/9.png", data)


def test_unknown_sequences_in_the_table_of_cvc_are_refused(cvc_folder):
    data = cvc_folder()
    (data / "splits.csv").write_text("sequence,split\nsequence-1,test\n")
    refuses("names the sequence 'sequence-1'.*for example '1'", data)
