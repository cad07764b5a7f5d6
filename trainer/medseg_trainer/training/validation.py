"""Validation during training: segment some val images with the runtime's segmenter, measure, and render a sheet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medseg_runtime.files.replace import replacing
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.bundle import Sampling
from medseg_runtime.result.segmentation import Segmentation
from medseg_trainer.config.run import TrainConfig
from medseg_trainer.data.layouts import Case, Cases, read_cases
from medseg_trainer.data.notes import Notes
from medseg_trainer.evaluation.evaluate import SampleSettings
from medseg_trainer.evaluation.sheet import render_sheet
from medseg_trainer.evaluation.statistics import CaseFigures, measure, summarise
from medseg_trainer.models.graphs import Networks, TorchBackend
from medseg_trainer.models.manifest import manifest_of
from medseg_trainer.training.run_files import writing

SHEET_ROWS = 8


@dataclass(frozen=True, slots=True)
class Validator:
    """The val images of a run, and how they are measured."""

    config: TrainConfig
    cases: Cases
    """The cases that are measured."""
    available: int
    """Images in the split."""
    num_groups: int
    """Patients or video sequences in the split."""
    names_sha256: str
    """Of the split; see `Cases`."""
    warnings: tuple[str, ...]
    """How images and masks were read, one sentence each."""
    sheets: Path
    """Folder for the sheets."""

    @classmethod
    def read(cls, config: TrainConfig, data: Path, sheets: Path) -> Validator:
        """Take `validation_images` of the val split, evenly spaced.

        Raises:
            DataError: the split is empty, or one of these images cannot be decoded.
        """
        cases = read_cases(data, "val", len(config.classes), config.classes)
        picked = cases.evenly(config.validation_images)
        notes = Notes()
        for case in picked:  # decode them once: a damaged file is found before hours of training
            notes.add(case)
        return cls(config, picked, len(cases), cases.num_groups, cases.names_sha256, notes.lines(), sheets)

    def __call__(self, networks: Networks, sampling: Sampling, name: str) -> dict[str, float]:
        """Return the mean metrics of the networks, and write the sheet `name`.png."""
        segmenter = Segmenter(manifest_of(self.config, sampling), TorchBackend(networks))
        metrics, shown = list[CaseFigures](), list[tuple[Case, Segmentation]]()
        stride = max(1, len(self.cases) // SHEET_ROWS)
        settings = SampleSettings(samples=self.config.validation_samples)
        for index, (case, result) in enumerate(settings.segment_all(segmenter, self.cases)):
            metrics += measure(case, result)
            if index % stride == 0 and len(shown) < SHEET_ROWS:  # a few only: photographs are large
                shown.append((case, result))
        summary = summarise(metrics)
        sheet = self.sheets / f"{name}.png"
        with writing(sheet), replacing(sheet) as temporary:
            render_sheet(shown).save(temporary)
        wanted = (
            "ged",
            "hm_iou",
            "sample_diversity",
            "rater_diversity",
            "consensus_dice",
            "empty_samples",
            "empty_raters",
            "ece",
        )
        return {key: summary[key].mean for key in wanted}
