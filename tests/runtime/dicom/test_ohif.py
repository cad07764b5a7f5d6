"""OHIF, a viewer of DICOM in the browser, lists our series apart and draws them where their masks are. Only with `pytest -m ohif`."""

import numpy as np
import pytest

from medseg_runtime.readers.image import read_image
from medseg_runtime.result.representatives import Representatives
from medseg_runtime.testing import toy_segmenter
from medseg_runtime.writers.dicom.colors import consensus_color, sample_color
from tests.support import ohif, orthanc
from tests.support.viewer import opened

pytestmark = [pytest.mark.ohif, pytest.mark.timeout(900)]
CHOSEN = Representatives(np.array([0, 1, 3]), np.array([0.5, 0.3, 0.2]))


@pytest.fixture(scope="module")
def segmented(sources):
    """A result on a CT slice."""
    pytest.importorskip("highdicom")
    return toy_segmenter()(read_image(sources("CT_small.dcm")), samples=4, center=(77, 38))


@pytest.fixture(scope="module")
def viewer(segmented, sources, tmp_path_factory):
    """The slice and our objects in the viewer."""
    from medseg_runtime.writers.dicom.seg import dicom_objects

    objects = dicom_objects([segmented], np.zeros((64, 64, 3), np.uint8), chosen=CHOSEN)
    with (
        orthanc.running(tmp_path_factory.mktemp("orthanc")) as archive,
        ohif.served(archive.dicomweb) as url,
    ):
        for content in (sources("CT_small.dcm").read_bytes(), *objects.files.values()):
            archive.store(content)
        with opened(url, segmented.source.dicom.header.StudyInstanceUID) as study:
            assert not study.drawn().any()
            yield study


def test_series_are_listed_apart(viewer):
    assert sorted(description.partition(" (")[0] for description in viewer.series()) == [
        "Confidence", "Consensus", "Representatives, 3 of 4",
    ]  # fmt: skip


def test_the_consensus_is_drawn_where_it_is(viewer, segmented):
    viewer.load("Consensus")
    assert viewer.labels() == ["nodule, consensus of 4 samples"]
    assert overlap(viewer, segmented, segmented.consensus) > 0.9
    assert has_color(viewer, segmented, segmented.consensus, consensus_color(0))


def test_representatives_are_drawn_where_they_are(viewer, segmented):
    viewer.load("Representatives")
    assert viewer.labels() == [
        "nodule, outline 1 of 3, 50 % of samples",
        "nodule, outline 2 of 3, 30 % of samples",
        "nodule, outline 3 of 3, 20 % of samples",
    ]
    masks = segmented.masks[CHOSEN.samples]
    assert overlap(viewer, segmented, masks.any(axis=0)) > 0.9
    alone = masks & (masks.sum(axis=0) == 1)
    assert alone.any(axis=(1, 2)).sum() >= 1
    for number, mask in enumerate(alone):
        assert not mask.any() or has_color(viewer, segmented, mask, sample_color(number))


def overlap(viewer, segmented, mask):
    """Return the IoU of what is drawn and where a mask belongs."""
    drawn, expected = viewer.drawn(), viewer.expected(mask, segmented.source.dicom.plane)
    assert expected.sum() > 1000
    return (drawn & expected).sum() / (drawn | expected).sum()


def has_color(viewer, segmented, mask, color):
    """Tell whether the color over a grey image has the same hue: the channels' differences are in one direction."""
    shown = viewer.picture()[viewer.expected(mask, segmented.source.dicom.plane)].mean(axis=0)
    one, other = (np.subtract(rgb, np.mean(rgb)) for rgb in (shown, color))
    return one @ other > 0.95 * np.linalg.norm(one) * np.linalg.norm(other)
