"""MedSegLatDiff's runtime: many plausible segmentations of one medical image, without torch.

Research software, not a medical device.

>>> from medseg_runtime import Segmenter
>>> result = Segmenter.load()("nodule.png", samples=16)        # doctest: +SKIP
>>> result.masks.shape, result.confidence.max()                # doctest: +SKIP
"""

__version__ = "0.1.0"

from medseg_runtime.errors import (
    BackendError,
    BundleError,
    ImageError,
    MedsegError,
    OutputError,
    ParameterError,
)
from medseg_runtime.imaging import Box
from medseg_runtime.lanes import Outcome
from medseg_runtime.segmentation import Segmentation
from medseg_runtime.segmenter import Segmenter

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
