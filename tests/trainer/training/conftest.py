"""Settings for the tests of a training."""

import pytest

from medseg_trainer.training import loop


@pytest.fixture(autouse=True)
def every_step_is_logged(monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
