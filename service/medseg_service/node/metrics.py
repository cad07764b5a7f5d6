"""What Prometheus reads of a node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from medseg_service.node.job import OPEN, State

SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one node, in a registry of their own."""

    def __init__(self, counts: Callable[[], Mapping[State, int]]) -> None:
        """Take what counts the jobs in each state."""
        self._registry = registry = CollectorRegistry()
        registry.register(_Jobs(counts))
        self.associations = Counter(
            "medseg_node_associations", "Incoming associations, by what became of them.", ["outcome"], registry=registry
        )
        self.received = Counter("medseg_node_objects", "C-STORE requests, by status.", ["status"], registry=registry)
        self.received_bytes = Counter("medseg_node_received_bytes", "Of objects that were kept.", registry=registry)
        self.sent_bytes = Counter("medseg_node_sent_bytes", "Of objects that arrived.", registry=registry)
        self.ended = Counter("medseg_node_jobs_ended", "Jobs that ended, by how.", ["state"], registry=registry)
        self.failures = Counter(
            "medseg_node_failures", "Failed attempts, by stage and error.", ["stage", "error"], registry=registry
        )
        self.worker_deaths = Counter("medseg_node_worker_deaths", "Workers that a job killed.", registry=registry)
        self.stage_seconds = Histogram(
            "medseg_node_stage_seconds", "Duration of a stage.", ["stage"], buckets=SECONDS, registry=registry
        )
        self.workers = Gauge("medseg_node_workers", "Workers with a loaded model.", registry=registry)
        self.results = Counter(
            "medseg_node_results", "Images that were segmented, by whether the consensus is empty.", ["consensus"],
            registry=registry,
        )  # fmt: skip
        self.agreement = Summary(
            "medseg_node_mean_pairwise_iou", "Of the samples of an image, over its classes.", registry=registry
        )

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _Jobs(Collector):
    """The jobs of the store, counted when they are asked for."""

    def __init__(self, counts: Callable[[], Mapping[State, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the number of jobs in each state, and of all that are open."""
        counts = self._counts()
        jobs = GaugeMetricFamily("medseg_node_jobs", "Jobs in each state.", labels=["state"])
        for state, count in counts.items():
            jobs.add_metric([state], count)
        yield jobs
        yield GaugeMetricFamily("medseg_node_queue_depth", "Open jobs.", sum(counts[state] for state in OPEN))
