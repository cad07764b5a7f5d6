"""data.json: a run goes on with the same data only."""

import json
import shutil

import pytest

from medseg_runtime.errors import CheckpointError
from medseg_trainer.training.loop import fit


def test_other_data_than_at_the_start_of_a_run_are_refused(config, reference, phantom, tmp_path):
    run = shutil.copytree(reference, tmp_path / "run")
    before = (run / "data.json").read_text()
    phantom.write_dataset(tmp_path / "data", num_patients=12)
    with pytest.raises(
        CheckpointError, match=r"was started on .* train images and .* val images, and there are .* now"
    ):
        fit(config, tmp_path / "data", run)
    assert (run / "data.json").read_text() == before


def test_other_images_of_the_same_number_are_refused(config, reference, phantom_zips, tmp_path):
    """Otherwise training images could become those that the best weights are chosen by."""
    run = shutil.copytree(reference, tmp_path / "run")
    told = json.loads((run / "data.json").read_text())
    told["splits"]["val"]["names_sha256"] = "0" * 64
    (run / "data.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match="and there are others now"):
        fit(config, phantom_zips, run)
