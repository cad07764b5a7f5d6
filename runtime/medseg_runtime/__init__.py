"""MedSegLatDiff's runtime: many plausible segmentations of one medical image, without torch.

Research software, not a medical device.

>>> from medseg_runtime import Segmenter
>>> result = Segmenter.load()("nodule.png", samples=16)        # doctest: +SKIP
>>> result.masks.shape, result.confidence.max()                # doctest: +SKIP
"""

from medseg_runtime._version import __version__
from medseg_runtime.errors import (
    BackendError,
    BundleError,
    ImageError,
    MedsegError,
    OutputError,
    ParameterError,
)
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.inference.workers import Outcome
from medseg_runtime.model.preprocess import Box
from medseg_runtime.result.segmentation import Segmentation

__all__ = [
    "BackendError",
    "Box",
    "BundleError",
    "ImageError",
    "MedsegError",
    "Outcome",
    "OutputError",
    "ParameterError",
    "Segmentation",
    "Segmenter",
    "__version__",
]
