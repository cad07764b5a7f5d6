"""The cases of a split."""

import pytest

from medseg_trainer.data.case import Entry
from medseg_trainer.data.layouts import Cases


@pytest.mark.parametrize(("count", "numbers"), [(3, "024"), (1, "0"), (6, "012345"), (9, "012345"), (None, "012345")])
def test_some_of_the_cases_are_evenly_spaced(count, numbers):
    six = Cases([Entry(str(k), f"patient {k // 4}", lambda: pytest.fail("it was decoded")) for k in range(6)])
    assert "".join(entry.name for entry in six.evenly(count).entries) == numbers
    assert six.num_groups == 2
