"""Cases, working sets and batch sources for tests."""

from dataclasses import replace

import numpy as np

from medseg_runtime.model.preprocess import InputRule
from medseg_trainer.config.run import AugmentConfig
from medseg_trainer.data.layouts import Case
from medseg_trainer.data.working_set import BatchSource, WorkingSet, working_size

LIVELY = AugmentConfig(shift_px=9, flip=True, intensity=0.2)
STILL = AugmentConfig(shift_px=0, flip=False, intensity=0.0)
NATIVE = InputRule(channels=1, height=32, width=32, geometry="native", intensity="minmax", context=64)
ODD_DIFFERENCE = replace(NATIVE, context=62)  # 15 px on either side
OBLONG = replace(NATIVE, height=16, width=48)
SQUASHED = InputRule(channels=1, height=32, width=48, geometry="resize", intensity="minmax")
COLOR = InputRule(channels=3, height=32, width=32, geometry="resize", intensity="unit")
SIZES = [(128, 128), (65, 127), (63, 90), (30, 31)]  # whole, odd, narrower than the context, smaller than the field


def make_case(height=128, width=128, channels=1, raters=2):
    rng = np.random.default_rng(height)
    image = rng.integers(0, 256, (height, width) if channels == 1 else (height, width, channels), np.uint8)
    masks = np.zeros((raters, height, width), np.uint8)
    masks[0, height // 3 : height // 2 + 3, width // 3 : width // 2 + 5] = 1
    masks[1:, height // 2, width // 2] = 2
    return Case(name="a", group="a", image=image, masks=masks)


def working_set(*cases, rule=NATIVE):
    images, labels = zip(*(working_size(case, rule) for case in cases), strict=True)
    return WorkingSet(np.stack(images).astype(np.float16), np.stack(labels), len(cases))


def source(data, rule=NATIVE, augment=STILL, batch_size=1, **more):
    return BatchSource(data, rule, augment, batch_size, 7, **more)
