"""Coded terms and units of measurements. What DICOM PS3.16 and SNOMED CT have no code for is of a scheme of our own."""

from __future__ import annotations

from collections.abc import Callable

from medseg_runtime.result.distribution import Distribution
from medseg_runtime.writers.dicom.codes import Term

OWN_SCHEME = "99MEDSEG"
"""Private designators begin with 99 (PS3.16, chapter 8)."""

QUANTITIES: dict[str, Term] = {
    "area": ("42798000", "SCT", "Area"),  # CID 7471
    "long_axis": ("103339001", "SCT", "Long axis"),  # CID 7470
    "short_axis": ("103340004", "SCT", "Short axis"),  # CID 7470
    "mean_diameter": ("mean-diameter", OWN_SCHEME, "Mean of long and short axis"),
    "volume": ("118565006", "SCT", "Volume"),  # CID 7472
    "equivalent_diameter": ("sphere-diameter", OWN_SCHEME, "Diameter of the sphere of equal volume"),
}
"""Name in `Measurements` -> concept name of its NUM items."""

STATISTICS: tuple[tuple[Term, Callable[[Distribution], float]], ...] = (
    (("373098007", "SCT", "Mean"), lambda found: found.mean),
    (("386136009", "SCT", "Standard Deviation"), lambda found: found.standard_deviation),
    (("373099004", "SCT", "Median"), lambda found: found.median),
    (("371888009", "SCT", "5th Percentile Value of population"), lambda found: found.low),
    (("371889001", "SCT", "95th Percentile Value of population"), lambda found: found.high),
    (("255605001", "SCT", "Minimum"), lambda found: float(found.values.min())),
    (("56851009", "SCT", "Maximum"), lambda found: float(found.values.max())),
)
"""Derivation of a NUM item, and its value. CID 7464, for the percentiles CID 7465."""

CERTAINTY: Term = ("111012", "DCM", "Certainty of Finding")
NUMBER_OF_SAMPLES: Term = ("samples", OWN_SCHEME, "Number of samples")

PERCENT: Term = ("%", "UCUM", "Percent")
NO_UNITS: Term = ("1", "UCUM", "no units")
UNITS: dict[str, Term] = {
    "mm": ("mm", "UCUM", "mm"),  # CID 7460
    "mm2": ("mm2", "UCUM", "square millimeter"),  # CID 7461
    "mm3": ("mm3", "UCUM", "cubic millimeter"),  # CID 7462
    "px": ("{pixels}", "UCUM", "Pixels"),  # as in TID 1604, and UCUM, section 6
}
"""Unit of a `Distribution` -> code."""

IMAGING_PROCEDURE: Term = ("363679005", "SCT", "Imaging procedure")  # CID 100
DEVICE: Term = ("121007", "DCM", "Device")  # CID 270
COMMENT: Term = ("121106", "DCM", "Comment")
