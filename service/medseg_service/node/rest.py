"""Jobs by HTTP, health and metrics.

POST /jobs             {"study", "series", "instance", "frame", "point_px": [x, y]} or {"study", "series", "point_mm": [x, y, z]}
                       202 with the job, 200 if it is open already, 429 if too many are
GET  /jobs/{id}        the job, 404 if it is not known or was removed
GET  /health/live      200 while the process runs
GET  /health/ready     200 once a worker has loaded the model, else 503
GET  /metrics          for Prometheus
"""

from __future__ import annotations

import logging
import math
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from medseg_runtime.errors import MedsegError, OutputError, ParameterError
from medseg_runtime.files.typed_json import parse_json, typed
from medseg_service.bearer_token import is_authorized
from medseg_service.errors import QueueFullError
from medseg_service.http_server import LimitedBody
from medseg_service.listening import is_direct
from medseg_service.node.failure import place_of
from medseg_service.node.job import Caller, Job, Order
from medseg_service.node.job_store import JobStore
from medseg_service.node.metrics import CONTENT_TYPE, Metrics
from medseg_service.node.object_store import is_uid

MAX_BODY_BYTES = 64 << 10
RETRY_AFTER_S = "30"
OPEN_PATHS = frozenset({"/health/live", "/health/ready"})
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRequest:
    """The body of POST /jobs."""

    study: str
    series: str
    instance: str | None = None
    frame: int | None = None
    point_px: tuple[float, float] | None = None
    """x, y from the upper left corner of the instance."""
    point_mm: tuple[float, float, float] | None = None
    """x, y, z in DICOM patient coordinates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Api:
    """The HTTP interface of a node."""

    jobs: JobStore
    metrics: Metrics
    token: str | None
    any_host: bool
    """Answer to any name of this machine. Without a token that lets a web page in, by a name that it has made lead here."""
    needs_point: bool
    is_ready: Callable[[], bool]
    accepted: Callable[[Job], None]
    """Is called for each new job."""

    def application(self) -> Any:
        """Return it as an ASGI application."""
        routes = [
            Route("/jobs", self._guarded(self._post), methods=["POST"]),
            Route("/jobs/{id}", self._guarded(self._get), methods=["GET"]),
            Route("/metrics", self._guarded(self._metrics), methods=["GET"]),
            Route("/health/live", lambda _: JSONResponse({"live": True})),
            Route("/health/ready", self._ready),
        ]
        return LimitedBody(Starlette(routes=routes), MAX_BODY_BYTES)

    def _guarded(self, answer: Callable[[Request, bytes], Response]) -> Callable[[Request], Any]:
        """Check the token, and turn errors into answers."""

        async def endpoint(request: Request) -> Response:
            if self.token is not None and not is_authorized(request.headers.get("authorization"), self.token):
                return JSONResponse(
                    {"problem": "the bearer token is absent or wrong"}, 401, {"WWW-Authenticate": "Bearer"}
                )
            if not (self.any_host or is_direct(request.headers.get("host", ""))):
                return JSONResponse(
                    {"problem": "the Host header is a name", "remedy": "Call the node by its address or as localhost."},
                    421,
                )
            try:
                return await run_in_threadpool(answer, request, await request.body())
            except QueueFullError as error:
                return _problem(error, 429, {"Retry-After": RETRY_AFTER_S})
            except ParameterError as error:
                return _problem(error, 400)
            except OutputError as error:
                return _problem(error, 503, {"Retry-After": RETRY_AFTER_S})
            except Exception as error:  # noqa: BLE001 - the caller gets an answer, and no text that may quote data
                log.error("HTTP request failed: %s", place_of(error))
                return JSONResponse({"problem": "the node failed", "remedy": "See what its log says."}, 500)

        return endpoint

    def _post(self, request: Request, body: bytes) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return JSONResponse({"problem": "the body is not application/json", "remedy": "Send a JSON object."}, 415)
        order = order_of(body, needs_point=self.needs_point)
        job, is_new = self.jobs.submit(order, _caller(request))
        if is_new:
            self.accepted(job)
        return JSONResponse(_shown(job), 202 if is_new else 200, {"Location": f"/jobs/{job.id}"})

    def _get(self, request: Request, _body: bytes) -> Response:
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            return JSONResponse({"problem": "there is no such job", "remedy": "POST it to /jobs."}, 404)
        return JSONResponse(_shown(job))

    def _metrics(self, _request: Request, _body: bytes) -> Response:
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _ready(self, _request: Request) -> Response:
        ready = self.is_ready()
        return JSONResponse({"ready": ready}, 200 if ready else 503)


def order_of(body: bytes, *, needs_point: bool) -> Order:
    """Return what a body asks for.

    Raises:
        ParameterError: it is not JSON, has other keys, or its values do not go together.
    """
    try:
        asked: JobRequest = typed(JobRequest, parse_json(body.decode()), "the body")
    except (ValueError, TypeError, RecursionError) as error:
        raise ParameterError(
            f"the body is no job: {error}", "Send study, series and a point, as the docs say."
        ) from error
    for name in ("study", "series", "instance"):
        if not is_uid(getattr(asked, name) or ("0" if name == "instance" else "")):
            raise ParameterError(f"{name} is not a UID", "Send the UID from the DICOM header.")
    if asked.point_px is not None and asked.point_mm is not None:
        raise ParameterError("there are two points", "Send point_px or point_mm.")
    if not all(map(math.isfinite, (*(asked.point_px or ()), *(asked.point_mm or ())))):
        raise ParameterError("a coordinate is not a finite number", "Send numbers.")
    if (asked.point_px is None) != (asked.instance is None):
        raise ParameterError("point_px and instance go together", "Send both, or point_mm alone.")
    if asked.frame is not None and (asked.instance is None or asked.frame < 1):
        raise ParameterError("frame counts the frames of an instance from 1", "Send it with instance and point_px.")
    if needs_point and asked.point_px is None and asked.point_mm is None:
        raise ParameterError("this model needs a point", "Send instance and point_px, or point_mm.")
    return Order(
        origin="rest",
        study=asked.study,
        series=asked.series,
        instance=asked.instance,
        frame=asked.frame,
        center=asked.point_px,
        center_mm=asked.point_mm,
    )


def _shown(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state,
        "created": job.created,
        "changed": job.changed,
        "attempts": job.attempts,
        "crashes": job.crashes,
        "reason": job.reason,
        "outputs": job.outputs,
        "trace_id": job.caller.trace_id,
    }


def _caller(request: Request) -> Caller:
    """Return who calls, with the trace that a W3C traceparent header names."""
    found = re.fullmatch(
        r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*", request.headers.get("traceparent", "")
    )
    address = None if request.client is None else request.client.host
    return Caller(ae_title=None, address=address, trace_id=found[1] if found else secrets.token_hex(16))


def _problem(error: MedsegError, status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"problem": error.problem, "remedy": error.remedy}, status, headers)
