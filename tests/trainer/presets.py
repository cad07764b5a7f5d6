"""All presets, as a parameter of tests."""

import pytest

from medseg_trainer.config.presets import PRESETS

EVERY_PRESET = pytest.mark.parametrize("preset", PRESETS)
