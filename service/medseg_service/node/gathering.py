"""Wait for the images of a job, and fetch those that were not sent.

an image that is named, alone       as soon as it is here
a series                            once nothing of it has come for `idle_s`: DICOM has no end of a series
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from medseg_runtime.errors import ParameterError
from medseg_runtime.readers.dicom.pointing_sr import GIVE_ONE
from medseg_service.errors import RemoteError
from medseg_service.node.config import DicomWeb, Limits
from medseg_service.node.dicomweb import DicomWebClient
from medseg_service.node.job import Order
from medseg_service.node.object_store import ObjectStore, parse_object

POLL_S = 1.0


class NotYet(Exception):  # noqa: N818 - nothing is wrong
    """Images of a job are still to come; it is looked at again after some seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathering:
    """Makes sure that the images of a job are on the disk."""

    objects: ObjectStore
    source: DicomWeb | None
    limits: Limits
    slices: int
    """Of a series around a point."""

    def series_of(self, order: Order) -> str | None:
        """Return the series of an order that names its instance alone, once it is known.

        Raises:
            ParameterError: it names no instance either.
            RemoteError: the archive failed.
        """
        if order.fault:
            raise ParameterError(f"the finding of the SR does not say where: {order.fault}", GIVE_ONE)
        if order.instance is None:
            raise ParameterError(
                "the SR does not say which series it points into",
                "Send one whose evidence names the images of one series.",
            )
        found = self.objects.series_of(order.study, order.instance)
        if found is None and self.source is not None:
            with DicomWebClient(self.source) as client:
                found = client.series_of(order.study, order.instance)
        return found

    def gather(self, order: Order) -> None:
        """Return once the images are here.

        Raises:
            NotYet: they are not.
            RemoteError: the archive that they are fetched from failed.
            OutputError: the disk is full.
        """
        here = self.objects.instances(order.study, order.series)
        alone = order.instance is not None and (self.slices == 1 or order.frame is not None)
        left = max(here.values(), default=0.0) + self.limits.idle_s - time.time()
        if not alone and 0 < left <= self.limits.idle_s:  # more is left where the clock was set back
            raise NotYet(left)
        if self.source is not None:
            here |= self._fetch(self.source, order, set(here), alone=alone)
        if not here or (order.instance is not None and order.instance not in here):
            raise NotYet(POLL_S)

    def _fetch(self, source: DicomWeb, order: Order, here: set[str], *, alone: bool) -> dict[str, float]:
        """Fetch what is not here, and return it."""
        if alone and order.instance in here:
            return {}
        with DicomWebClient(source) as client:
            listed = client.instances(order.study, order.series)
            wanted = [uid for uid in listed if uid not in here and (not alone or uid == order.instance)]
            for uid in wanted:
                received = parse_object(client.fetch(order.study, order.series, uid))
                if (received.study, received.series, received.instance) != (order.study, order.series, uid):
                    raise RemoteError("the DICOMweb server sent another instance", "See what its log says of it.")
                self.objects.save(received)
        return dict.fromkeys(wanted, time.time())
