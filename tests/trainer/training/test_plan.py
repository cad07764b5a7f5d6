"""The stages of a run."""

from dataclasses import replace

import pytest
from lightning_fabric import Fabric

from medseg_trainer.config.presets import paper, photo, tiny
from medseg_trainer.training import loop, plan
from medseg_trainer.training.loop import fit
from medseg_trainer.training.run_folder import RunFolder


def test_latents_are_scaled_on_the_whole_batch_for_any_number_of_processes(micro, phantom_zips, tmp_path, monkeypatch):
    def looked_at(_autoencoder, batch):
        raise KeyboardInterrupt(len(batch.image))

    monkeypatch.setattr(Fabric, "world_size", 2)
    monkeypatch.setattr(loop, "run_stage", lambda *_: None)
    monkeypatch.setattr(RunFolder, "load_weights", lambda *_: None)
    monkeypatch.setattr(plan, "set_latent_scale", looked_at)
    base = micro()
    autoencoder = replace(base.mask_autoencoder, regulariser="kl", latent_noise=0.0)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(replace(base, mask_autoencoder=autoencoder), phantom_zips, tmp_path / "run")
    assert caught.value.args == (base.mask_autoencoder.optimisation.batch_size,)


@pytest.mark.parametrize(
    ("preset", "seeds"), [(tiny, [1, 3, 4]), (paper, [1, 2, 3]), (photo, [1, 3])], ids=["tiny", "paper", "photo"]
)
def test_the_stages_follow_from_the_configuration_and_keep_their_seeds(preset, seeds):
    stages = plan.plan(preset())
    assert [stage.batch_seed for stage in stages] == seeds
    assert (stages[0].finish is None) == (preset().mask_autoencoder.regulariser == "sphere")
