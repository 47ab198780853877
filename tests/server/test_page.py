"""The page at `/`: what it shows, and that nothing on it can do anything."""

from __future__ import annotations

import re
import time
from html import unescape
from html.parser import HTMLParser

import pytest
from server.conftest import call, event, request, send

from agentpulse.server import LocalServer

DASH = "\u2013"


class Page(HTMLParser):
    """The text of each cell by table and column, and every element with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[dict[str, str]]] = {}
        self._rows: list[dict[str, str]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._cell: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if attributes.get("role") == "region":
            self._rows = self.tables[attributes["aria-label"] or ""] = []
        if tag == "tr":
            self._rows.append({})
        if tag == "td":
            self._cell = attributes["data-name"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            before = self._rows[-1].get(self._cell, "")
            self._rows[-1][self._cell] = " ".join(f"{before} {data}".split())

    def rows(self, table: str = "Calls") -> list[dict[str, str]]:
        """Those below the names of the columns."""
        return self.tables[table][1:]


def page(server: LocalServer, path: str = "/") -> str:
    reply = request(server, "GET", path)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    return reply.text


def totals(html: str) -> dict[str, str]:
    found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html)
    return dict(found)


def test_without_calls_it_explains_how_to_get_some(empty_server: LocalServer):
    html = page(empty_server)

    assert "agentpulse dev -- python agent.py" in html
    assert "import agentpulse\nagentpulse.init()" in html
    assert f"AGENTPULSE_ENDPOINT={empty_server.url}" in html
    assert totals(html) == {
        "Calls": "0", "Cost": "$0.00", "Input tokens": "0", "Output tokens": "0", "Errors": "0",
    }  # fmt: skip


def test_it_shows_what_a_call_was_and_what_it_cost(server: LocalServer):
    at = time.time() - 60
    send(
        server,
        call(
            at, session="email:3f9a", operation="chat", provider="anthropic",
            model="claude-sonnet-4-5", request_model="sonnet",
            input_tokens=12_345, output_tokens=67,
            cache_read_tokens=12_000, reasoning_tokens=40, cost_usd=0.0421, latency_ms=2345.6,
            ttft_ms=321.4, finish_reasons=["tool_calls", "stop"], estimated=True,
        ),
        call(
            at - 1, model="gpt-4o-2024-08-06", request_model="gpt-4o",
            cost_usd=None, latency_ms=999.7,
            status="error", error_type="RateLimitError", error="429: quota",
        ),
    )  # fmt: skip

    html = page(server)
    answered, failed = Page(html).rows()

    assert answered == {
        "Time": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at)),
        "Model": "claude-sonnet-4-5 anthropic · chat, asked for sonnet",
        "Status": "ok tool_calls, stop",
        "Input": "12,345 12,000 cached",
        "Output": "67 40 reasoning",
        "Cost": "$0.0421 estimated",
        "Latency": "2.3 s",
        "TTFT": "321 ms",
        "Agent": "mailer email:3f9a",
    }
    assert failed["Model"] == "gpt-4o-2024-08-06 openai"
    assert failed["Status"] == "RateLimitError 429: quota"
    assert [failed[name] for name in ("Input", "Output", "Cost", "Latency", "TTFT")] == [
        DASH, DASH, DASH, "1.0 s", DASH,
    ]  # fmt: skip
    assert totals(html) == {
        "Calls": "2", "Cost": "$0.0421", "Input tokens": "12,345", "Output tokens": "67",
        "Errors": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        (0.0, "$0.00"),
        (0.000_000_4, "<$0.000001"),
        (0.000_042, "$0.000042"),
        (0.0315, "$0.0315"),
        (1234.5, "$1,234.50"),
        (None, DASH),
    ],
)
def test_a_cost_has_as_many_digits_as_are_of_use(
    cost: float | None, shown: str, server: LocalServer
):
    send(server, call(cost_usd=cost, tokens=1))

    html = page(server)

    assert Page(html).rows()[0]["Cost"] == shown
    assert unescape(totals(html)["Cost"]) == shown
    assert ("and 1 call of unknown cost" in html) == (cost is None)


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def test_where_nothing_else_was_sent_there_are_calls_alone(server: LocalServer):
    send(server, call())

    assert list(Page(page(server)).tables) == ["Calls"]


def test_what_runs_now_is_shown_on_top_until_it_ends(server: LocalServer):
    now = time.time()
    start = {"action": "start", "label": "email", "type": "cron"}
    agent = {"span_kind": "agent", "name": "planner"}
    send(
        server,
        call(),
        event("session", now - 200, session="email:1", data=start),
        event("span_start", now - 100, session="email:1", span_id="s1", data=agent),
        event("span_start", now - 7300, span_id="s2", data=agent),
        event("span_start", now, span_id="s3", data={"span_kind": "session", "name": "x"}),
        event("span_start", now - 90_000, span_id="s4", data=agent),
        event("span_start", now, data=agent),
    )

    found = Page(page(server))
    assert list(found.tables) == ["Running now", "Calls", "Sessions"]
    shown = [(row["Name"], row["For"], row["Agent"]) for row in found.rows("Running now")]
    assert shown == [
        ("planner agent", "1 min", "mailer email:1"),
        ("email cron", "3 min", "mailer email:1"),
        ("planner agent", "2 h 1 min", "mailer"),
    ]
    assert found.rows("Running now")[0]["Since"] == moment(now - 100)

    send(
        server,
        event("session", now, session="email:1", data={"action": "end", "status": "success"}),
        event("span_end", now, span_id="s1", data=agent),
        event("span_end", now, span_id="s2", data=agent),
    )
    assert "Running now" not in Page(page(server)).tables


def test_sessions_are_shown_with_what_they_cost(server: LocalServer):
    at = time.time() - 60
    end = {
        "action": "end", "label": "email", "type": "session", "status": "error",
        "error_type": "ValueError", "duration_ms": 1500,
    }  # fmt: skip
    send(
        server,
        call(at - 2, session="email:1", model="gpt-4o", tokens=1200, cost_usd=0.25),
        call(at - 1, session="email:1", model="claude", tokens=34),
        event("session", at, session="email:1", data=end),
        call(at - 9, session="alone"),
        call(at - 2 * 86_400, session="older"),
    )

    failed, alone = Page(page(server)).rows("Sessions")
    assert failed == {
        "Last event": moment(at), "Session": "email session · email:1",
        "Status": "error ValueError", "Calls": "2", "Tokens": "1,234", "Cost": "$0.2500",
        "Duration": "1.5 s", "Models": "claude, gpt-4o",
    }  # fmt: skip
    assert (alone["Session"], alone["Status"], alone["Cost"]) == ("alone", "unknown", DASH)


def test_crons_are_shown_with_their_last_run_and_their_next(server: LocalServer):
    now = time.time()
    ran = {
        "job": "cleanup", "run_id": "r1", "status": "fail", "started_at": now - 9000,
        "duration_ms": 2000, "error_type": "TimeoutError", "summary": "half of it",
        "schedule": "0 * * * *", "timezone": "UTC", "cost_usd": 0.5, "max_runtime_s": 60,
    }  # fmt: skip
    begun = {**ran, "span_kind": "cron", "run_id": "r2"}
    waiting = {"job": "new", "run_id": "r3", "span_kind": "cron", "schedule": "never"}
    send(
        server,
        event("cron", now - 8998, data=ran),
        event("span_start", now - 9000, session="r2", data=begun),
        event("span_start", now, session="r3", data=waiting),
    )

    cleanup, new = Page(page(server)).rows("Crons")
    due = now // 3600 * 3600 + 3600
    assert (cleanup["Last run"], cleanup["Job"]) == (moment(now - 9000), "cleanup 0 * * * * UTC")
    assert cleanup["Status"] == "fail TimeoutError half of it 1 running, longer than it may"
    assert (cleanup["Duration"], cleanup["Cost"]) == ("2.0 s", "$0.5000")
    assert cleanup["Runs"].startswith("1 1 failed ")
    assert cleanup["Next"].startswith(f"{moment(due)} overdue since ")
    assert (new["Last run"], new["Runs"]) == (DASH, "0")
    assert new["Status"] == "no run ended yet 1 running"
    assert new["Next"].startswith(f"{DASH} schedule is 'never' (")


def test_alerts_and_errors_are_shown_the_latest_first(server: LocalServer):
    at = time.time() - 60
    alert = {"title": "Budget reached", "message": "Budget reached", "severity": "critical"}
    error = {"error_type": "KeyError", "error": "'id'", "where": "thread"}
    send(
        server,
        event("alert", at, session="s1", data=alert),
        event("error", at + 1, data=error),
        event("alert", at - 1, data={"message": "only that"}),
        event("event", at, data={"name": "none of these"}),
    )

    shown = Page(page(server)).rows("Alerts and errors")
    assert [(row["Level"], row["What"], row["Agent"]) for row in shown] == [
        ("error", "KeyError 'id'", "mailer"),
        ("critical", "Budget reached", "mailer s1"),
        ("warning", "untitled only that", "mailer"),
    ]


def test_the_latest_calls_are_on_top_and_only_calls_are_shown(server: LocalServer):
    now = time.time()
    send(server, *(call(now - age, model=f"m{age}") for age in range(1, 6)), event("cost"))

    rows = Page(page(server)).rows()

    assert [row["Model"].split()[0] for row in rows] == [f"m{age}" for age in range(1, 6)]


def test_it_shows_a_period(server: LocalServer):
    now = time.time()
    send(server, call(now - 3600), call(now - 3 * 86_400), call(now - 20 * 86_400))

    paths = ("/", "/?period=24h", "/?period=7d", "/?period=30d", "/?period=<b>")

    assert [len(Page(page(server, path)).rows()) for path in paths] == [1, 1, 2, 3, 1]


def test_it_stays_short_and_mentions_that(server: LocalServer):
    for part in range(3):
        send(server, *(call(id=f"{part}-{number}") for number in range(100)))

    html = page(server)

    assert len(Page(html).rows()) == 200
    assert "The latest 200 calls" in html
    assert totals(html)["Calls"] == "300"


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"{{ 7 * 7 }}"


def test_what_was_sent_can_do_nothing_on_the_page(server: LocalServer):
    kinds = ("session", "alert", "error", "cron", "span_start")
    send(server, call(model="harmless"), *(event(kind, data={}) for kind in kinds))
    harmless = Page(page(server))
    values = dict.fromkeys(
        (
            "label", "type", "error_type", "error", "title", "message", "severity", "job", "run_id",
            "status", "summary", "schedule", "timezone", "name",
        ),
        HOSTILE,
    )  # fmt: skip
    send(
        server,
        call(
            session=HOSTILE, operation=HOSTILE, provider=HOSTILE, model=HOSTILE, status="error",
            request_model=HOSTILE + "x", error_type=HOSTILE, error=HOSTILE,
            finish_reasons=[HOSTILE, 5, None],
        ),
        event("session", session=HOSTILE, data={**values, "action": "start"}),
        event("session", session=HOSTILE + "2", data={**values, "action": "end"}),
        event("alert", session=HOSTILE, data=values),
        event("error", session=HOSTILE, data=values),
        event("cron", session=HOSTILE, data=values),
        event("span_start", session=HOSTILE, data={**values, "span_kind": "cron", "run_id": "r"}),
        event("span_start", span_id="s", data={**values, "span_kind": "agent"}),
        agent=HOSTILE,
    )  # fmt: skip

    html = page(server)
    hostile = Page(html)

    assert "<script>alert" not in html
    assert "<img" not in html
    for tag in ("script", "style", "img", "link", "a", "meta"):
        assert [each for each, _ in hostile.elements].count(tag) == [
            each for each, _ in harmless.elements
        ].count(tag)
    assert hostile.rows()[0]["Agent"].count(HOSTILE) == 2
    assert hostile.rows()[0]["Model"].startswith(HOSTILE)
    for table, column in (
        ("Running now", "Name"), ("Sessions", "Status"), ("Crons", "Job"),
        ("Alerts and errors", "What"),
    ):  # fmt: skip
        assert HOSTILE in " ".join(row[column] for row in hostile.rows(table))


def test_it_loads_nothing_and_runs_only_its_own_script(empty_server: LocalServer):
    first, second = (request(empty_server, "GET", "/") for _ in range(2))

    policy = dict(
        part.strip().split(" ", 1) for part in first.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in first.headers["content-security-policy"]
    (nonce,) = re.findall("'nonce-(.*)'", policy["script-src"])
    assert nonce not in second.text  # another one each time
    for tag, attributes in Page(first.text).elements:
        if tag in ("script", "style"):
            assert attributes["nonce"] == nonce
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert "src" not in attributes
        target = attributes.get("href")
        assert target is None or target.startswith(("/?period=", "data:image/svg+xml,"))


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "http://localhost:{port}"])
def test_it_names_the_address_by_which_it_was_opened(address: str, empty_server: LocalServer):
    url = address.format(port=empty_server.port)

    reply = request(empty_server, "GET", "/", headers={"Host": url.removeprefix("http://")})

    assert f"AGENTPULSE_ENDPOINT={url}" in reply.text
