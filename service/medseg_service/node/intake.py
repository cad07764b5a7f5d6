"""What a received object is: kept, and the jobs that it asks for.

an SR that points                          a job for each point, in the transaction that records the object
an image of a series that a rule matches   one job for the series, once it is complete
an object that the node made itself        acknowledged and dropped: an archive may forward everything that it gets
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

from medseg_runtime.writers.dicom.identity import MAKER
from medseg_service.errors import QueueFullError
from medseg_service.node.config import Rule
from medseg_service.node.job import Caller, Job, Order
from medseg_service.node.job_store import JobStore
from medseg_service.node.object_store import ObjectStore, ReceivedObject
from medseg_service.node.pointing import orders_of


class Intake:
    """Takes objects from the network."""

    def __init__(self, objects: ObjectStore, jobs: JobStore, rules: Sequence[Rule]) -> None:
        self._objects = objects
        self._jobs = jobs
        self._rules = rules

    def accept(self, received: ReceivedObject, caller: Caller) -> list[Job]:
        """Keep an object, and return the jobs that are new because of it. Both are on the disk when this returns.

        Raises:
            QueueFullError: it asks for more jobs than there is room for; then it is not kept.
            OutputError: the disk is full or fails; then it is not acknowledged.
        """
        if received.manufacturer == MAKER:
            return []
        orders = self._orders(received)
        if orders and self._jobs.is_full():  # before it is written; `submit_in` counts exactly
            raise QueueFullError("as many jobs are open as are allowed", "Send it again later.")
        new: list[Job] = []

        def submit(connection: sqlite3.Connection) -> None:
            for order in orders:
                job, is_new = self._jobs.submit_in(connection, order, caller)
                if is_new:
                    new.append(job)

        self._objects.save(received, submit)
        return new

    def _orders(self, received: ReceivedObject) -> list[Order]:
        if orders := orders_of(received):
            return orders
        if any(_matches(rule, received) for rule in self._rules):
            return [Order(origin="rule", study=received.study, series=received.series)]
        return []


def _matches(rule: Rule, received: ReceivedObject) -> bool:
    return (
        (rule.modality is None or rule.modality == received.modality)
        and (rule.description is None or bool(re.search(rule.description, received.description, re.IGNORECASE)))
        and (rule.body_part is None or rule.body_part.casefold() == received.body_part.casefold())
    )
