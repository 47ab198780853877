"""Who may talk to the server: its key, browsers that were opened, and no other web pages."""

from __future__ import annotations

import re
import socket

import pytest
from server.conftest import Reply, batch, call, event, get, post, request, send

from agentpulse.server import LocalServer

KEY = "ap_0123456789abcdef"
READING = ["/v1/events", "/v1/stats", "/v1/sessions", "/v1/sessions/s/transcript", "/v1/crons", "/"]
JSON = {"Content-Type": "application/json"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Site": "none"}


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("", 401),
        (f"Bearer {KEY}", 200),
        (f"bearer  {KEY} ", 200),
        ("Bearer sk-0123456789", 401),
        (f"Basic {KEY}", 401),
        (KEY, 401),
        ("Bearer", 401),
        ("Bearer ap_another", 403),
        (f"Bearer {KEY}x", 403),
        (f"Bearer {KEY[:-1]}", 403),
        ("Bearer ap_\xff", 403),
    ],
)
def test_what_was_recorded_is_shown_and_added_to_with_the_key_alone(
    authorization: str, status: int
):
    headers = {"Authorization": authorization}
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


def test_every_run_has_a_key_of_its_own():
    server = LocalServer()
    with server:
        first = server.key
    with server:
        second = server.key
        assert post(server, batch(event()), Authorization=f"Bearer {first}").status == 403

    assert first != second
    assert re.fullmatch("ap_local_[0-9a-f]{32}", second)


def test_who_has_no_key_reads_where_it_is(server: LocalServer):
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer ap_another"}):
        reply = request(server, "GET", "/v1/stats", headers=headers)

        assert reply.json["error"].endswith(
            f": send Authorization: Bearer KEY with the key in {server.key_file}."
        )
    assert request(server, "GET", "/", headers={"Authorization": ""}).headers[
        "www-authenticate"
    ] == "Bearer"  # fmt: skip


def test_no_word_of_what_was_recorded_is_in_an_address_that_needs_no_key(server: LocalServer):
    send(server, call(session="secret-session", model="secret-model"), agent="secret-agent")

    for path in ("/v1/health", "/", "/open/", "/open/x", "/v1/nothing", "/v1/stats?since=x"):
        for accept in ("text/html", "*/*"):
            headers = {"Authorization": "", "Accept": accept}
            assert "secret" not in request(server, "GET", path, headers=headers).text


def open_browser(server: LocalServer, address: str) -> Reply:
    headers = {"Authorization": "", **BROWSER}
    return request(server, "GET", address.removeprefix(server.url), headers=headers)


def look(server: LocalServer, cookie: str, path: str = "/", **headers: str) -> Reply:
    sent = {"Authorization": "", "Cookie": cookie, **BROWSER, **headers}
    return request(server, "GET", path, headers=sent)


def cookie_in(reply: Reply) -> str:
    return reply.headers["set-cookie"].partition(";")[0]


def test_a_browser_gets_a_cookie_by_an_address_that_works_once(server: LocalServer):
    address = server.browser_address()

    opened, again = open_browser(server, address), open_browser(server, address)

    assert (opened.status, opened.headers["location"], opened.body) == (303, "/", b"")
    _, _, terms = opened.headers["set-cookie"].partition("; ")
    assert terms == "Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict"
    assert opened.headers["referrer-policy"] == "no-referrer"
    assert opened.headers["cache-control"] == "no-store"
    assert (again.status, "set-cookie" in again.headers) == (401, False)
    assert "agentpulse dev --port" in again.text
    assert server.key not in opened.headers["set-cookie"] + address

    cookie = cookie_in(opened)
    assert look(server, cookie).status == 200
    assert look(server, cookie, "/v1/events").json == {"events": [], "next": None}
    # In a browser that is open already, it leads to the page again.
    assert look(server, cookie, address.removeprefix(server.url)).headers["location"] == "/"


def test_each_browser_can_have_an_address(server: LocalServer):
    first, second = server.browser_address(), server.browser_address()

    assert first != second
    assert [open_browser(server, each).status for each in (second, first)] == [303, 303]


def test_a_look_at_the_head_of_an_address_does_not_use_it_up(server: LocalServer):
    address = server.browser_address()

    head = request(server, "HEAD", address.removeprefix(server.url), headers={"Authorization": ""})

    assert "set-cookie" not in head.headers
    assert open_browser(server, address).status == 303


def test_a_browser_sees_and_does_not_add(server: LocalServer):
    cookie = cookie_in(open_browser(server, server.browser_address()))

    refused = post(server, batch(event()), Authorization="", Cookie=cookie)

    assert refused.status == 401
    assert server.events() == []


@pytest.mark.parametrize("code", ["", "x", "0" * 16, "0" * 48, "cookie", "%F0%9F%90%8E", "a" * 999])
def test_a_code_that_was_made_up_opens_nothing(code: str, empty_server: LocalServer):
    reply = open_browser(empty_server, f"{empty_server.url}/open/{code}")

    assert (reply.status in (401, 404), "set-cookie" in reply.headers) == (True, False)


def test_a_cookie_of_another_server_opens_nothing_and_hides_nothing():
    with LocalServer() as server, LocalServer() as other:
        own = cookie_in(open_browser(server, server.browser_address()))
        foreign = cookie_in(open_browser(other, other.browser_address()))
        name = own.partition("=")[0]
        _, _, value = foreign.partition("=")

        assert name != foreign.partition("=")[0]
        for cookie in (foreign, f"{name}={value}", f"{name}=", name, f"{name}={server.key}"):
            assert look(server, cookie).status == 401
        # Those of other programs on this machine come along, and may be anything.
        odd = 'a={"b": [1, "c"]}; d e=f;; =g; \xff=\xff'
        assert look(server, f"{odd}; {foreign}; {own}; h=i").status == 200


def test_a_browser_that_was_not_opened_is_shown_how_to_be(server: LocalServer):
    reply = look(server, "")

    assert (reply.status, reply.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert f"agentpulse dev --port {server.port}" in reply.text
    assert "script-src" in reply.headers["content-security-policy"]
    assert "<script" not in reply.text


def test_health_needs_no_key(empty_server: LocalServer):
    health = get(empty_server, "/v1/health", Authorization="")

    assert (health["status"], health["service"]) == ("ok", "agentpulse-local")


def test_a_refused_key_makes_no_difference_in_the_body(empty_server: LocalServer):
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
def test_an_address_that_is_not_there_is_answered_in_json(
    method: str, path: str, status: int, empty_server: LocalServer
):
    reply = request(empty_server, method, path)

    assert (reply.status, list(reply.json)) == (status, ["error"])


def test_it_listens_on_the_loopback_address_alone(server: LocalServer):
    assert server.url == f"http://127.0.0.1:{server.port}"
    # Any 127.… address is this machine, and only one of them answers.
    with socket.socket() as other:
        assert other.connect_ex(("127.0.0.2", server.port)) != 0
