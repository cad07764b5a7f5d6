"""What the DICOM objects of one result have in common: who made them, their series, and UIDs that depend on nothing but the content.

UIDs are hashes of everything that decides the content, because an archive keeps the first object that it has under a UID.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.uid import generate_uid

from medseg_runtime._version import __version__
from medseg_runtime.result.segmentation import Segmentation

MAKER, MODEL = "MedSegLatDiff", "medseg-infer"


@dataclass(frozen=True, slots=True)
class Series:
    """A series of our objects. Each kind has one of its own: viewers show one object of a series."""

    number: int
    name: str

    @property
    def description(self) -> str:
        """The Series Description. What tells series apart comes first, because viewers cut the end off."""
        return f"{self.name} ({MAKER}, research only)"


CONSENSUS = Series(900, "Consensus")
REPRESENTATIVES = Series(901, "Representatives")
CONFIDENCE = Series(902, "Confidence")
OVERLAY = Series(903, "Overlay")
STRUCTURES = Series(904, "Structures")
MEASUREMENTS = Series(905, "Measurements")


def parameters(result: Segmentation) -> dict[str, str]:
    """Return what the masks depend on besides the image, as text."""
    field = result.placement.field
    return {
        "bundle": result.provenance.bundle,
        "bundle_sha256": result.provenance.bundle_sha256,
        "samples": str(len(result.masks)),
        "seed": str(int(result.request.seed)),
        "sampler": result.sampler,
        "steps": str(result.steps),
        "threshold": repr(float(result.request.threshold)),
        "field": f"{field.x} {field.y} {field.width} {field.height}",
    }


def entropy(results: Sequence[Segmentation], headers: Sequence[pydicom.Dataset], libraries: Sequence[str]) -> list[str]:
    """Return everything that decides the content of the objects of some results.

    headers: of the sources. libraries: versions of those that write the objects.
    """
    images = [result.source for result in results]
    frames = [image.dicom.frame for image in images if image.dicom is not None]
    return [
        *(str(header.SOPInstanceUID) for header in headers),
        *(image.sha256 for image in images),
        *(sha256_of(array) for result in results for array in (result.masks, result.confidence)),
        repr((frames, parameters(results[0]), __version__)),
        repr(tuple(libraries)),
    ]


@dataclass(frozen=True, slots=True)
class Tracking:
    """Identifies a finding over reports and over time (PS3.16, TID 1501)."""

    identifier: str
    """At most 64 characters."""
    uid: str


def tracking(decides: Sequence[str], classes: Sequence[str], pointed: str) -> list[Tracking]:
    """Return how the finding of each class is tracked.

    decides: of `entropy`. pointed: Tracking UID of the finding that was pointed at; empty if there is none. A single class is that finding, and
    has its UID. Several classes are parts of it, and their UIDs depend on it alone.
    """
    made_from = [pointed] if pointed else decides
    uids = [pointed] if pointed and len(classes) == 1 else [uid(made_from, f"tracking {name}") for name in classes]
    return [Tracking(f"{MAKER} {name}"[:64], each) for name, each in zip(classes, uids, strict=True)]


def sha256_of(array: npt.NDArray[np.generic]) -> str:
    """Return the SHA-256 of an array's values."""
    return hashlib.sha256(array.tobytes()).hexdigest()


def uid(decides: Sequence[str], kind: str) -> str:
    """Return the UID of one kind of object of a result. decides: of `entropy`."""
    return str(generate_uid(entropy_srcs=[*decides, kind]))
