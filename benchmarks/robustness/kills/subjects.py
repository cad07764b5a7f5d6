"""The commands that are killed, by name."""

from __future__ import annotations

from benchmarks.robustness.kills.export import Export
from benchmarks.robustness.kills.inference import DicomInference, FirstInference, Inference
from benchmarks.robustness.kills.training import Training
from benchmarks.robustness.kills.trials import Subject

SUBJECTS: dict[str, type[Subject]] = {
    "folder": Inference,
    "dicom": DicomInference,
    "first": FirstInference,
    "training": Training,
    "export": Export,
}
