"""Who may talk to the server: keys, and the web pages in this machine's browsers."""

from __future__ import annotations

import socket

import pytest
from server.conftest import batch, event, get, post, request

from agentpulse.server import LocalServer

KEY = "ap_0123456789abcdef"
READING = ["/v1/events", "/v1/stats", "/v1/sessions", "/v1/sessions/s/transcript", "/v1/crons", "/"]
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 200),
        (f"Bearer {KEY}", 200),
        ("bearer ap_another", 200),
        ("Bearer sk-0123456789", 401),
        (f"Basic {KEY}", 401),
        (KEY, 401),
        ("Bearer", 401),
        ("", 401),
    ],
)
def test_by_default_any_key_of_ours_is_taken_and_none_is_needed(
    authorization: str | None, status: int, server: LocalServer
):
    headers = {} if authorization is None else {"Authorization": authorization}

    assert post(server, batch(event()), **headers).status == status
    assert request(server, "GET", "/v1/stats", headers=headers).status == status
    assert request(server, "POST", "/v1/heartbeat", b"{}", {**JSON, **headers}).status == status


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        (f"Bearer {KEY}", 200),
        ("Bearer sk-0123456789", 401),
        ("Bearer ap_another", 403),
        (f"Bearer {KEY}x", 403),
    ],
)
def test_a_server_with_a_key_takes_that_one(authorization: str | None, status: int):
    headers = {} if authorization is None else {"Authorization": authorization}
    with LocalServer(key=KEY) as server:
        replies = [
            post(server, batch(event()), **headers),
            request(server, "POST", "/v1/heartbeat", b"{}", {**JSON, **headers}),
            *(request(server, "GET", path, headers=headers) for path in READING),
        ]
        kept = len(server.events())

    found = [reply.status for reply in replies]
    transcript = READING.index("/v1/sessions/s/transcript") + 2
    assert found == [
        404 if status == 200 and n == transcript else status for n in range(len(found))
    ]
    assert kept == (2 if status == 200 else 0)
    assert not any(KEY in reply.text for reply in replies)


def test_health_needs_no_key():
    with LocalServer(key=KEY) as server:
        health = get(server, "/v1/health")

    assert (health["status"], health["service"]) == ("ok", "agentpulse-local")


def test_a_refused_key_is_not_told_apart_by_the_body(empty_server: LocalServer):
    # The key is looked at first, so that who has none learns nothing about limits.
    reply = post(empty_server, b"{", Authorization="Bearer nobody")

    assert reply.status == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.evil:{port}",
        "",
    ],
)
def test_another_host_name_is_refused_before_anything_else(host: str, empty_server: LocalServer):
    headers = {"Host": host.format(port=empty_server.port)}

    for reply in (
        post(empty_server, batch(event()), **headers),
        request(empty_server, "GET", "/v1/events", headers=headers),
        request(empty_server, "GET", "/v1/health", headers=headers),
        request(empty_server, "GET", "/nowhere", headers=headers),
    ):
        assert (reply.status, list(reply.json)) == (403, ["error"])
    assert empty_server.events() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_the_names_of_this_machine_are_taken(host: str, empty_server: LocalServer):
    assert get(empty_server, "/v1/health", Host=f"{host}:{empty_server.port}")["status"] == "ok"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:{port}", "Sec_Fetch_Site": "same-origin"}, 200),
        ({"Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Origin": "http://127.0.0.1:1", "Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
    ],
)
def test_a_page_of_another_origin_cannot_write(
    headers: dict[str, str], status: int, server: LocalServer
):
    sent = {name: value.format(port=server.port) for name, value in headers.items()}

    assert post(server, batch(event()), **sent).status == status
    assert len(server.events()) == (status == 200)


def test_no_page_of_another_origin_gets_leave_to_read(empty_server: LocalServer):
    origin = {"Origin": "https://evil.example"}
    asked = {**origin, "Access-Control-Request-Method": "POST"}

    for method, path, headers in (
        ("GET", "/v1/events", origin),
        ("GET", "/", origin),
        ("OPTIONS", "/v1/ingest", asked),
        ("POST", "/v1/ingest", origin),
    ):
        reply = request(empty_server, method, path, headers=headers)
        assert not [name for name in reply.headers if name.startswith("access-control")]
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/ingest", 405),
        ("POST", "/v1/events", 405),
        ("DELETE", "/v1/events", 405),
        ("GET", "/v1", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/../etc/passwd", 404),
        ("POST", "/", 405),
    ],
)
def test_what_is_not_there_is_said_in_json(
    method: str, path: str, status: int, empty_server: LocalServer
):
    reply = request(empty_server, method, path)

    assert (reply.status, list(reply.json)) == (status, ["error"])


def test_it_listens_on_the_loopback_address_alone(server: LocalServer):
    assert server.url == f"http://127.0.0.1:{server.port}"
    # Any 127.… address is this machine, and only one of them answers.
    with socket.socket() as other:
        assert other.connect_ex(("127.0.0.2", server.port)) != 0
