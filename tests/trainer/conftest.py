"""Runs that several tests use, trained once."""

import pytest


@pytest.fixture(scope="session")
def micro_run(micro, phantom_zips, tmp_path_factory):
    """The folder of a finished micro run; read only."""
    from medseg_trainer.training.loop import fit

    out = tmp_path_factory.mktemp("micro") / "run"
    fit(micro(), phantom_zips, out)
    return out


@pytest.fixture(scope="session")
def config(micro):
    return micro(steps=5)


@pytest.fixture(scope="session")
def reference(config, phantom_zips, tmp_path_factory):
    """The folder of an uninterrupted run; read only."""
    out = tmp_path_factory.mktemp("reference") / "run"
    from medseg_trainer.training import loop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "LOG_EVERY", 1)
        loop.fit(config, phantom_zips, out)
    return out
