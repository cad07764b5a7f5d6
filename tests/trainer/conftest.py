"""Runs that several tests look at, trained once."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def micro_run(micro, phantom_zips, tmp_path_factory):
    """The folder of a finished micro run; read only."""
    from medseg_trainer.loop import fit

    out = tmp_path_factory.mktemp("micro") / "run"
    fit(micro(), phantom_zips, out)
    return out
