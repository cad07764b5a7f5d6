"""OHIF, a viewer of DICOM in the browser, draws our segmentations where their masks are. Only with `pytest -m ohif`."""

import io

import pydicom
import pytest

from tests.support import ohif, orthanc
from tests.support.viewer import opened

pytestmark = [pytest.mark.ohif, pytest.mark.timeout(900)]


def test_a_series_is_drawn_where_its_masks_are(write, sources, tmp_path):
    made = write(sources("CT_small.dcm"))
    content = made.objects["segmentation.dcm"]
    with orthanc.running(tmp_path) as archive, ohif.served(archive.dicomweb) as url:
        for each in (made.path.read_bytes(), content):
            archive.store(each)
        with opened(url, str(pydicom.dcmread(io.BytesIO(content)).StudyInstanceUID)) as viewer:
            assert not viewer.drawn().any()
            (description,) = viewer.series()
            viewer.load(description)
            drawn, expected = viewer.drawn(), viewer.expected(made.result.masks.any(axis=0), made.image.dicom.plane)
    assert (drawn & expected).sum() / (drawn | expected).sum() > 0.9
