"""A machine for records, so that no test waits for the idle check."""

import pytest


@pytest.fixture(scope="session")
def machine():
    from benchmarks.common.machine import Machine

    return Machine(
        processor="A processor", features=("avx2",), cores=2, memory_gib=1.0, system="Linux", python="3.11", commit="abc",
        versions={"torch": "1.0", "openvino": "absent"}, load_average=(0.0, 0.0, 0.0), taken_by_others=0.0,
    )  # fmt: skip
