"""The benchmark of volumes and growth, at toy size."""

import sys

import numpy as np
import pytest

from benchmarks.accuracy import growth


def test_a_command_writes_record_page_and_plot(machine, phantom_zips, tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "inspect_machine", lambda: machine)
    command = ["x", "--data", str(phantom_zips), "--nodules", "1", "--samples", "4", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    growth.main()
    (path,) = tmp_path.glob("*.json")
    text = path.with_suffix(".md").read_text()
    assert growth.page(growth.GrowthOfNodules.read(path)).markdown() == text
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert "| 49 % | all pairs |" in text
    assert f"python -m {growth.__name__} --data DATA --nodules 1 --samples 4" in text


def test_pairs_by_number_know_what_all_pairs_do_not():
    """Sample k is k times the same finding, which grew by half."""
    before = np.arange(1.0, 17.0)
    figures = growth.growth_figures(before, 1.5 * before, 1.5)
    assert (figures["width paired"], figures["covered paired"], figures["grown paired"]) == (0.0, 1.0, 1.0)
    assert figures["width all pairs"] > 2
    assert figures["grown all pairs"] < 0.7


def test_a_finding_that_few_samples_show_is_left_out():
    figures = growth.growth_figures(np.array([1.0, 0, 0, 0]), np.array([1.0, 0, 0, 0]), 1.0)
    assert all(np.isnan(value) for value in figures.values())


def test_volumes_of_samples_are_compared_with_raters():
    areas = np.outer(np.ones(5), np.arange(1.0, 17.0))  # sample k is large in all slices, or small in all
    figures = growth.volume_figures(areas, raters=np.array([10.0, 40.0, 60.0, 75.0]))
    assert figures["spread paired"] > 2 * figures["spread shuffled"]
    assert figures["covered paired"] == 1.0 > figures["covered shuffled"]
    assert figures["crps paired"] < figures["crps shuffled"]


def test_crps_of_one_value_is_the_distance():
    assert growth.crps(np.array([3.0]), np.array([5.0])) == 2.0
    assert growth.crps(np.array([0.0, 2.0]), np.array([1.0])) == pytest.approx(0.5)


def test_a_crop_is_enlarged_round_its_center():
    crop = np.zeros((128, 128), np.uint8)
    crop[44:84, 44:84] = 200
    for side in growth.SIDES:
        marked = growth.enlarged(crop, side, 0) > 100
        assert np.count_nonzero(marked) == pytest.approx(1600 * (side / 128) ** 2, rel=0.05)
        assert np.argwhere(marked).mean(axis=0) == pytest.approx([63.5, 63.5], abs=0.6)
