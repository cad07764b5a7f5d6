"""The mask autoencoder against its counterpart trained by the mean squared error."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.training.baselines import masks
from benchmarks.training.baselines.reconstruction import FIRST, SECOND, Reconstructed, mask_rows, reconstruct
from medseg_runtime.errors import CheckpointError
from medseg_trainer.evaluation.statistics import Figure
from medseg_trainer.models.autoencoder import MaskAutoencoder
from medseg_trainer.training.run_folder import RunFolder


def test_an_autoencoder_does_not_differ_from_itself(micro):
    config = micro()
    torch.manual_seed(0)
    autoencoder = MaskAutoencoder(config.mask_autoencoder, 1).eval()
    labels = np.zeros((3, 32, 32), np.uint8)
    labels[0, 10:14, 10:14] = labels[1, 5:25, 5:25] = 1
    found = list(reconstruct({FIRST: autoencoder, SECOND: autoencoder}, [("patient", labels)], seed=0))
    assert [one.size for one in found] == [16, 400]
    assert all(one.overlaps[FIRST, level] == one.overlaps[SECOND, level] for one in found for level in (0.0, 0.3))
    assert any(one.overlaps[FIRST, 0.0] != one.overlaps[FIRST, 0.3] for one in found)


def test_masks_are_averaged_by_size():
    overlaps = {(FIRST, n): (0.9, 0.8) for n in (0.0, 0.3)} | {(SECOND, n): (0.7, 0.5) for n in (0.0, 0.3)}
    found = [Reconstructed("a", 5, overlaps), Reconstructed("b", 19, overlaps), Reconstructed("b", 20, overlaps)]
    rows = {(row.noise, row.sizes): row for row in mask_rows(found)}
    assert {sizes: rows[0.3, sizes].masks for noise, sizes in rows if noise} == {
        "all": 3,
        "under 20 px": 2,
        "20 to 49 px": 1,
    }
    assert rows[0.0, "under 20 px"].patients == 2
    assert rows[0.0, "all"].dice["difference"] == Figure(*[pytest.approx(0.2)] * 3)
    assert rows[0.0, "all"].iou["mse"] == Figure(*[pytest.approx(0.5)] * 3)


def test_the_counterpart_differs_only_in_its_loss(micro, phantom_zips, tmp_path):
    config = micro()
    masks._train(config, phantom_zips, tmp_path / "run")
    found = masks.compare(tmp_path / "run", phantom_zips, tmp_path / "mse", "a command")
    other = RunFolder(tmp_path / "mse").config()
    assert replace(other.mask_autoencoder, reconstruction="cross_entropy") == config.mask_autoencoder
    assert replace(other, mask_autoencoder=config.mask_autoencoder) == config
    weights = [load_file(tmp_path / name / "mask_autoencoder.safetensors") for name in ("run", "mse")]
    assert not torch.equal(*(tensors["decoder.entry.weight"] for tensors in weights))
    assert found.steps == 3
    assert {row.noise for row in found.rows} == {0.0, 0.3}
    found.write(tmp_path / "masks.json")
    assert masks.MaskComparison.read(tmp_path / "masks.json") == found
    with pytest.raises(CheckpointError, match="weighted cross-entropy"):
        masks.compare(tmp_path / "mse", phantom_zips, tmp_path / "third", "a command")
