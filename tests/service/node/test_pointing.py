"""Reports that point become orders."""

import pytest

from medseg_runtime.errors import ImageError
from medseg_service.node.object_store import parse_object
from medseg_service.node.pointing import orders_of
from tests.runtime.dicom.structured_reports import by_highdicom, group, report, scoord, scoord3d
from tests.runtime.dicom.structured_reports import image as pointed_image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PLACE = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4", "SOPInstanceUID": "1.2.5"}


def test_a_point_in_an_image(image):
    source = image()
    (order,) = orders_of(parse_object(by_highdicom(source, x=60.5, y=40.25)))
    assert (order.study, order.series) == (source.StudyInstanceUID, source.SeriesInstanceUID)
    assert (order.instance, order.center, order.center_mm) == (source.SOPInstanceUID, (60.5, 40.25), None)
    assert order.trigger == "1.2.3.101#1"
    assert order.tracking_uid == "1.2.3.77"


def test_a_point_in_the_patient(image):
    source = image()
    (order,) = orders_of(parse_object(by_highdicom(source, point_mm=(-100.0, -80.0, -77.5))))
    assert (order.series, order.instance) == (source.SeriesInstanceUID, None)
    assert (order.center_mm, order.reference_frame) == ((-100.0, -80.0, -77.5), source.FrameOfReferenceUID)
    assert order.tracking_uid == "1.2.3.77"


def test_every_finding_is_an_order_and_an_unclear_one_says_why():
    content = report(
        group(scoord("POINT", [1, 2], pointed_image("1.2.3.5000"))),
        group(scoord("POINT", [3, 4], pointed_image("1.2.3.5000", frame=7))),
        group(scoord("MULTIPOINT", [1, 1, 2, 2], pointed_image("1.2.3.5000"))),
        group(scoord3d("POINT", [1, 2, 3], "1.9")),
        **PLACE,
    )
    first, second, unclear, third = orders_of(parse_object(content))
    assert [first.center, second.center, third.center_mm] == [(1.0, 2.0), (3.0, 4.0), (1.0, 2.0, 3.0)]
    assert [first.frame, second.frame, third.reference_frame] == [None, 7, "1.9"]
    assert {first.study, first.series} == {"1.2.3", ""}  # without evidence the series is looked up by the instance
    assert (unclear.fault, unclear.series) == ("no point, closed outline or line of two points", "")
    assert not first.fault


def test_a_report_that_is_nested_too_deeply_is_refused_and_not_taken_for_one_without_points():
    begin = (
        b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    )  # ContentSequence, and an item of it
    end = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    content = report(**PLACE) + 2000 * begin + 2000 * end
    with pytest.raises(ImageError, match="damaged"):
        orders_of(parse_object(content))


def test_a_report_without_coordinates_and_an_image_ask_for_nothing(image, as_file):
    assert orders_of(parse_object(report(group(), **PLACE))) == []
    assert orders_of(parse_object(as_file(image()))) == []
