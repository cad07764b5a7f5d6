"""MedSegLatDiff's runtime: many plausible segmentations of one medical image, without torch.

Research software, not a medical device.

>>> from medseg_runtime import Segmenter
>>> with Segmenter.load() as segmenter:                          # doctest: +SKIP
...     result = segmenter("nodule.png", samples=16)
>>> result.masks.shape, result.confidence.max()                  # doctest: +SKIP
>>> result.save("results/nodule")                                # doctest: +SKIP
"""

from medseg_runtime._version import __version__
from medseg_runtime.backends.base import BackendName, PrecisionName
from medseg_runtime.errors import (
    BackendError,
    BundleError,
    CheckpointError,
    DataError,
    EngineError,
    ExportError,
    ImageError,
    MedsegError,
    OutputError,
    ParameterError,
)
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.inference.workers import Outcome
from medseg_runtime.model.preprocess import Box
from medseg_runtime.readers.clip import Clip, Frames, read_clip
from medseg_runtime.readers.image import read_image
from medseg_runtime.readers.series import list_series, read_series, read_volume
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.distribution import Distribution
from medseg_runtime.result.growth import Growth, compare
from medseg_runtime.result.limits import Limit
from medseg_runtime.result.measure import measure
from medseg_runtime.result.measurements import Measurements
from medseg_runtime.result.provenance import BackendRecord, Provenance
from medseg_runtime.result.representatives import Representatives
from medseg_runtime.result.request import SampleRequest
from medseg_runtime.result.segmentation import Segmentation

__all__ = [
    "BackendError",
    "BackendName",
    "BackendRecord",
    "Box",
    "BundleError",
    "CheckpointError",
    "Clip",
    "DataError",
    "Distribution",
    "EngineError",
    "ExportError",
    "Frames",
    "Growth",
    "ImageError",
    "Limit",
    "Measurements",
    "MedsegError",
    "Outcome",
    "OutputError",
    "ParameterError",
    "PrecisionName",
    "Provenance",
    "Representatives",
    "SampleRequest",
    "Segmentation",
    "Segmenter",
    "SourceImage",
    "__version__",
    "compare",
    "list_series",
    "measure",
    "read_clip",
    "read_image",
    "read_series",
    "read_volume",
]
