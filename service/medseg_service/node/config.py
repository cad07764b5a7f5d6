"""The configuration of a node: one TOML file. Paths in it are relative to its folder."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from medseg_runtime.backends.base import BackendName, PrecisionName
from medseg_runtime.errors import MedsegError
from medseg_runtime.result.request import SampleRequest
from medseg_service.errors import ConfigurationError
from medseg_service.listening import check_exposure
from medseg_service.tls import ClientTls, ServerTls


@dataclass(frozen=True, kw_only=True, slots=True)
class Dicom:
    """The node as a DICOM application entity that others send to."""

    calling_ae_titles: tuple[str, ...]
    """Application entities that may connect."""
    ae_title: str = "MEDSEG"
    """What they must call."""
    host: str = "127.0.0.1"
    port: int = 11112
    """0 takes any that is free."""
    peers: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses that may connect: single ones, or networks such as 10.1.0.0/16."""
    tls: ServerTls | None = None
    associations: int = 16
    """At once; more are rejected."""
    timeout_s: float = 30.0
    """For which a peer may be silent, or take for one message of the protocol (PDU)."""
    object_bytes: int = 1 << 29
    """Larger objects are refused: one is held in memory while it is received."""

    def __post_init__(self) -> None:
        _check_port(self.port, "dicom.port")
        for title in (self.ae_title, *self.calling_ae_titles):
            _check_title(title)
        if not self.calling_ae_titles:
            raise ConfigurationError("dicom.calling_ae_titles is empty", "Name the application entities that may send.")
        try:
            self.networks()
        except ValueError as error:
            raise ConfigurationError(
                f"dicom.peers: {error}", "Give addresses or networks, such as '10.1.2.3' or '10.1.0.0/16'."
            ) from error
        _check_positive(self.associations, "dicom.associations")
        _check_positive(self.timeout_s, "dicom.timeout_s")
        _check_positive(self.object_bytes, "dicom.object_bytes")

    def networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """Return the peers as networks."""
        return [ipaddress.ip_network(peer) for peer in self.peers]


@dataclass(frozen=True, kw_only=True, slots=True)
class Http:
    """Jobs by REST, health and metrics."""

    host: str = "127.0.0.1"
    port: int = 8180
    """0 takes any that is free."""
    token_file: Path | None = None
    """Of the bearer token that callers must show."""
    tls: ServerTls | None = None
    allow_insecure: bool = False
    """Listen beyond this machine without a token or TLS."""

    def __post_init__(self) -> None:
        _check_port(self.port, "http.port")
        check_exposure(
            self.host,
            has_token=self.token_file is not None,
            has_tls=self.tls is not None,
            allowed=self.allow_insecure,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """What segments. Backend and precision are fixed, so that the same input gives the same objects."""

    bundle: Path | None = None
    """Default: the lung-nodule model that is included."""
    backend: BackendName = "onnxruntime"
    precision: PrecisionName = "float32"
    threads: int = 1
    """Of each worker."""
    workers: int = 1
    """Processes that segment side by side."""
    require_signature: Path | None = None
    """A public key that the bundle must be signed with."""
    bundle_sha256: str | None = None
    samples: int = 16
    seed: int = 0
    threshold: float = 0.5
    slices: int = 1
    """Of a series around the point."""

    def __post_init__(self) -> None:
        for name in ("threads", "workers", "slices"):
            _check_positive(getattr(self, name), f"model.{name}")
        try:
            self.request()
        except MedsegError as error:
            raise ConfigurationError(f"model: {error.problem}", error.remedy) from error

    def request(self) -> SampleRequest:
        """Return what is asked for every image, besides its point."""
        return SampleRequest(samples=self.samples, seed=self.seed, threshold=self.threshold)


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomWeb:
    """A DICOMweb server."""

    url: str
    """Of its service, such as http://127.0.0.1:8042/dicom-web."""
    token_file: Path | None = None
    tls: ClientTls | None = None
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[^\s?#]+", self.url):
            raise ConfigurationError("the url of a DICOMweb server is not one", "Give http(s)://HOST:PORT/PATH.")
        _check_positive(self.timeout_s, "timeout_s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """An application entity that results are sent to by C-STORE."""

    ae_title: str
    host: str
    port: int
    tls: ClientTls | None = None
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        _check_port(self.port, "port")
        _check_title(self.ae_title)
        _check_positive(self.timeout_s, "timeout_s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Where results go: one of the two."""

    dicomweb: DicomWeb | None = None
    dicom: Archive | None = None

    def __post_init__(self) -> None:
        if (self.dicomweb is None) == (self.dicom is None):
            raise ConfigurationError(
                "results have no destination, or two", "Give either [destination.dicomweb] or [destination.dicom]."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """Series that are segmented without being asked for. What is not given matches everything."""

    modality: str | None = None
    description: str | None = None
    """Regular expression, found anywhere in Series Description, in any case."""
    body_part: str | None = None

    def __post_init__(self) -> None:
        if self.modality is None and self.description is None and self.body_part is None:
            raise ConfigurationError("a rule matches every series", "Give modality, description or body_part.")
        try:
            re.compile(self.description or "")
        except re.error as error:
            raise ConfigurationError(f"rules.description is no regular expression: {error}", "Mend it.") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When to wait, to try again and to give up."""

    open_jobs: int = 1000
    """More are refused: by DICOM with 0xA700, by HTTP with 429."""
    free_bytes: int = 1 << 30
    """With less free space on the disk, objects are refused with 0xA700."""
    idle_s: float = 10.0
    """A series is complete when nothing of it has come for so long: DICOM has no end of a series."""
    wait_s: float = 900.0
    """A job whose images have not come by then is given up."""
    attempts: int = 150
    """Of fetching and sending, and of segmenting after an error that may pass: an archive may be away for a day."""
    backoff_s: float = 2.0
    """Before the second attempt; doubled before each further one, up to 10 minutes."""
    job_s: float = 600.0
    """A worker that takes longer for a job is killed."""
    crashes: int = 2
    """A job that killed this many workers is given up."""
    interruptions: int = 20
    """A job that was under way this many times when the node itself was killed is given up."""

    def __post_init__(self) -> None:
        for name in ("open_jobs", "wait_s", "attempts", "backoff_s", "job_s", "crashes", "interruptions"):
            _check_positive(getattr(self, name), f"limits.{name}")
        if min(self.free_bytes, self.idle_s) < 0:
            raise ConfigurationError("limits.free_bytes or limits.idle_s is negative", "Give 0 or more.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """How long images, results and the record of a job are kept after its end, in hours."""

    done_hours: float = 24.0
    dead_hours: float = 168.0

    def __post_init__(self) -> None:
        if min(self.done_hours, self.dead_hours) < 0:
            raise ConfigurationError("a retention is negative", "Give 0 or more hours.")


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeConfig:
    """All of it."""

    state: Path
    """Folder of images, jobs and results. It holds data of patients."""
    dicom: Dicom
    destination: Destination
    http: Http = field(default_factory=Http)
    model: Model = field(default_factory=Model)
    source: DicomWeb | None = None
    """Where images are fetched that were not sent."""
    rules: tuple[Rule, ...] = ()
    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)
    audit: Path | None = None


def _check_port(port: int, name: str) -> None:
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"{name} {port} is out of range", "Give 1 to 65535, or 0 for any that is free.")


def _check_positive(number: float, name: str) -> None:
    if not number > 0:
        raise ConfigurationError(f"{name} {number} is out of range", "Give more than 0.")


def _check_title(title: str) -> None:
    """Check an AE title (PS3.5, 6.2): 1 to 16 printable ASCII characters without a backslash, not all spaces."""
    if not (title.strip() and len(title) <= 16 and title.isascii() and title.isprintable() and "\\" not in title):
        raise ConfigurationError(f"{title!r:.40} is no AE title", "Give 1 to 16 ASCII characters.")
