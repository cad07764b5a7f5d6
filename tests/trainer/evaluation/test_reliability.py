"""The reliability diagram."""

import sys

import pytest

from medseg_runtime.result.metrics import ReliabilityBin
from medseg_trainer.evaluation.reliability import reliability_figure, render_reliability

BINS = (ReliabilityBin(10, 0.25, 0.5), ReliabilityBin(1000, 0.75, 0.625))


def test_the_curve_is_the_raters_mean_over_the_confidence():
    curve, counts = reliability_figure(BINS).axes
    diagonal, points = curve.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert points.get_xydata().tolist() == [[0.25, 0.5], [0.75, 0.625]]
    assert [bar.get_height() for bar in counts.patches] == [10, 1000]
    assert [bar.get_center()[0] for bar in counts.patches] == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize("bins", [BINS, BINS[:1], ()], ids=len)
def test_the_diagram_is_rendered_without_pyplot(bins, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would fail
    picture = render_reliability(bins)
    assert (picture.mode, picture.getpixel((0, 0))) == ("RGB", (18, 20, 24))
    assert len(picture.getcolors(maxcolors=2**16)) > 10
