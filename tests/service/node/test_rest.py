"""Jobs by HTTP."""

import httpx
import pytest

from medseg_service.http_server import HttpServer
from medseg_service.listening import bound_socket
from medseg_service.node.rest import Api

BODY = {"study": "1.2", "series": "1.3", "instance": "1.4", "point_px": [64, 60.5]}
TOKEN = "t" * 32


@pytest.fixture
def serve(jobs, metrics):
    """serve(token=, needs_point=) -> a client of the running interface, and the jobs that it accepted."""
    running = []

    def start(*, token=None, needs_point=True, ready=True):
        accepted = []
        api = Api(
            jobs=jobs,
            metrics=metrics,
            token=token,
            any_host=token is not None,
            needs_point=needs_point,
            is_ready=lambda: ready,
            accepted=accepted.append,
        )
        server = HttpServer(api.application(), bound_socket("127.0.0.1", 0), None)
        server.start()
        client = httpx.Client(base_url=server.url, timeout=60)
        running.append((server, client))
        return client, accepted

    yield start
    for server, client in running:
        client.close()
        server.stop()


def test_a_job_is_accepted_once_and_shown(serve, jobs):
    client, accepted = serve()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    first = client.post("/jobs", json=BODY, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    again = client.post("/jobs", json=BODY)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.headers["location"] == f"/jobs/{first.json()['id']}"
    (job,) = accepted
    assert (job.order.center, job.order.instance, job.caller.trace_id) == ((64.0, 60.5), "1.4", trace)
    shown = client.get(first.headers["location"]).json()
    assert (shown["state"], shown["trace_id"]) == ("received", trace)
    assert jobs.get(shown["id"]) == job


def test_a_point_in_the_patient(serve):
    client, accepted = serve()
    body = {"study": "1.2", "series": "1.3", "point_mm": [1, -2.5, 3]}
    assert client.post("/jobs", json=body).status_code == 202
    assert accepted[0].order.center_mm == (1.0, -2.5, 3.0)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"study": "../x"}, "study is not a UID"),
        ({"instance": "x"}, "instance is not a UID"),
        ({"point_px": None}, "go together"),
        ({"instance": None}, "go together"),
        ({"point_mm": [1, 2, 3]}, "two points"),
        ({"point_px": [1]}, "no job"),
        ({"point_px": ["1", "2"]}, "no job"),
        ({"frame": 0}, "frame counts"),
        ({"pint_px": [1, 2]}, "unknown fields: pint_px"),
        ({"point_px": None, "instance": None}, "needs a point"),
        ({"point_px": [float("nan"), 1]}, "not a finite number"),
    ],
)
def test_what_is_wrong_is_400_and_said(serve, changes, problem):
    import json

    client, accepted = serve()
    content = json.dumps(BODY | changes)
    answer = client.post("/jobs", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert problem in answer.json()["problem"]
    assert answer.json()["remedy"]
    assert accepted == []


def test_no_json_is_400_and_no_declared_json_415(serve):
    client, _ = serve()
    for content in (b"{", b"[]", b"\xff", b"[" * 10000):
        assert client.post("/jobs", content=content, headers={"Content-Type": "application/json"}).status_code == 400
    assert client.post("/jobs", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415


def test_without_a_point_for_a_model_that_needs_none(serve):
    client, accepted = serve(needs_point=False)
    assert client.post("/jobs", json={"study": "1.2", "series": "1.3"}).status_code == 202
    assert (accepted[0].order.instance, accepted[0].order.center) == (None, None)


def test_a_full_queue_is_429(serve):
    client, _ = serve()
    answers = [client.post("/jobs", json=BODY | {"instance": f"1.4.{number}"}) for number in range(6)]
    assert [answer.status_code for answer in answers] == [202] * 5 + [429]
    assert answers[-1].headers["retry-after"] == "30"


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}])
@pytest.mark.parametrize(("method", "path"), [("POST", "/jobs"), ("GET", "/jobs/x"), ("GET", "/metrics")])
def test_without_the_token_nothing_but_health_is_answered(serve, header, method, path):
    client, accepted = serve(token=TOKEN)
    answer = client.request(method, path, headers=header)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert client.get("/health/live").status_code == 200
    assert accepted == []
    assert client.post("/jobs", json=BODY, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 202


def test_health_metrics_and_unknown_jobs(serve):
    client, _ = serve(ready=False)
    client.post("/jobs", json=BODY)
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 503
    assert client.get("/jobs/unknown").status_code == 404
    text = client.get("/metrics").text
    assert 'medseg_node_jobs{state="received"} 1.0' in text
    assert "medseg_node_queue_depth 1.0" in text


def test_a_large_body_is_413(serve):
    client, _ = serve()
    assert client.post("/jobs", content=b" " * 70_000).status_code == 413


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8180", "127.0.0.1.evil.example", "", "localhost.evil.example"]
)
def test_a_page_that_made_its_name_lead_here_gets_nothing(serve, host):
    client, accepted = serve()
    for method, path in (("POST", "/jobs"), ("GET", "/metrics"), ("GET", "/jobs/1")):
        content = {"json": BODY} if method == "POST" else {}
        assert client.request(method, path, headers={"Host": host}, **content).status_code == 421
    assert accepted == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8180", "127.0.0.1", "[::1]:8180", "10.1.2.3:1"])
def test_addresses_and_localhost_are_no_names_of_others(serve, host):
    assert serve()[0].get("/metrics", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_form_of_another_page_starts_no_job(serve, kind):
    import json

    client, accepted = serve()
    headers = {"Content-Type": kind, "Origin": "http://evil.example"}
    assert client.post("/jobs", content=json.dumps(BODY), headers=headers).status_code == 415
    preflight = client.options(
        "/jobs", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 405
    assert "access-control-allow-origin" not in preflight.headers
    assert accepted == []
