"""Validation during training: a few val images through the runtime's own segmenter, figures and a sheet of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medseg_runtime.files.replace import replacing
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.bundle import Sampling
from medseg_runtime.result.segmentation import Segmentation
from medseg_trainer.config.run import TrainConfig
from medseg_trainer.data.layouts import Case, Cases, read_cases
from medseg_trainer.evaluation.evaluate import SampleSettings
from medseg_trainer.evaluation.sheet import draw_sheet
from medseg_trainer.evaluation.statistics import CaseFigures, measure, summarise
from medseg_trainer.models.graphs import Networks, TorchBackend
from medseg_trainer.models.manifest import manifest_of
from medseg_trainer.training.run_files import writing

SHEET_ROWS = 8


@dataclass(frozen=True, slots=True)
class Validator:
    """The val images of a run."""

    config: TrainConfig
    cases: Cases
    """Those that are measured, each decoded when its turn comes."""
    available: int
    """Images that the split has."""
    num_groups: int
    """Patients that the split has."""
    names_sha256: str
    """See `Cases`."""
    sheets: Path

    @classmethod
    def read(cls, config: TrainConfig, data: Path, sheets: Path) -> Validator:
        """Read val and keep `validation_images` of it, evenly spaced."""
        cases = read_cases(data, "val", len(config.classes), config.classes[0])
        picked = cases.evenly(config.validation_images)
        for _ in picked:  # what cannot be decoded is found before hours of training, not at the first validation
            pass
        return cls(config, picked, len(cases), cases.num_groups, cases.names_sha256, sheets)

    def __call__(self, networks: Networks, sampling: Sampling, name: str) -> dict[str, float]:
        """Return the mean figures of these weights, and draw a sheet."""
        segmenter = Segmenter(manifest_of(self.config, sampling), TorchBackend(networks))
        figures, shown = list[CaseFigures](), list[tuple[Case, Segmentation]]()
        stride = max(1, len(self.cases) // SHEET_ROWS)
        settings = SampleSettings(samples=self.config.validation_samples)
        for index, (case, result) in enumerate(settings.segment_all(segmenter, self.cases)):
            figures += measure(case, result)
            if index % stride == 0 and len(shown) < SHEET_ROWS:  # the others are forgotten: photographs are large
                shown.append((case, result))
        summary = summarise(figures)
        sheet = self.sheets / f"{name}.png"
        with writing(sheet), replacing(sheet) as temporary:
            draw_sheet(shown).save(temporary)
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
