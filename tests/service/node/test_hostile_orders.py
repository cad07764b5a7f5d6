"""Bodies of POST /jobs that somebody made to break the node: one refusal each."""

import pytest

pytest.importorskip("starlette")

from medseg_runtime.errors import ParameterError
from medseg_service.node.rest import order_of

WHERE = '"study": "1.2", "series": "1.3", "instance": "1.4"'


@pytest.mark.parametrize(
    "body",
    [
        f'{{{WHERE}, "point_px": [NaN, 2]}}',
        f'{{{WHERE}, "point_px": [1e999, 2]}}',
        '{"study": "1.2", "series": "1.3", "point_mm": [1, 2, -Infinity]}',
        f'{{{WHERE}, "point_px": [1{"0" * 400}, 2]}}',
        f'{{{WHERE}, "point_px": [1, 2], "point_px": [3, 4]}}',
        "[" * 100_000,
    ],
    ids=["NaN", "too large", "infinite", "no float", "twice", "deep"],
)
def test_a_point_of_no_numbers_is_refused(body):
    with pytest.raises(ParameterError):
        order_of(body.encode(), needs_point=True)
