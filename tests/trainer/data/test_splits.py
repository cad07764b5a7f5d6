"""Splits by the hash of a name."""

import pytest

from medseg_trainer.data.splits import hashed_split


def test_without_a_table_a_patients_name_decides_the_split():
    names = [f"LIDC-IDRI-{number:04d}" for number in range(1000)]
    splits = [hashed_split(name) for name in names]
    assert [splits.count(s) for s in ("train", "val", "test")] == pytest.approx([800, 100, 100], abs=30)
    # second letters of train, val and test; must never change, or a new version could train on test patients
    assert "".join(split[1] for split in splits[1:25]) == "rrrrrrrerrrrrrrrrrerrrre"
