"""`agentpulse test`: one event, and the server's answer, in plain words."""

from __future__ import annotations

import pytest
from fakes.receiver import Receiver as StrictReceiver
from fakes.sdk import KEY, Receiver

from agentpulse.cli import main


@pytest.fixture(autouse=True)
def settings(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTPULSE_API_KEY", KEY)
    monkeypatch.setenv("AGENTPULSE_ENDPOINT", receiver.endpoint)
    monkeypatch.setenv("AGENTPULSE_AGENT", "mailer")


def test_an_event_that_is_accepted_is_a_success(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
):
    assert main(["test"]) == 0

    printed = capsys.readouterr()
    assert printed.out == f"{receiver.endpoint} accepted an event of the agent mailer (gzip).\n"
    assert printed.err == ""
    (event,) = receiver.events
    assert event["kind"] == "event"
    assert event["data"]["name"] == "agentpulse test"
    assert (receiver.agents, receiver.keys) == ({"mailer"}, [f"Bearer {KEY}"])


def test_a_server_that_reads_no_gzip_is_sent_plain_json_as_the_exporter_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with StrictReceiver(reads_gzip=False) as receiver:
        monkeypatch.setenv("AGENTPULSE_ENDPOINT", receiver.url)
        assert main(["test"]) == 0

    form = "(plain JSON, since it reads no gzip)"
    printed = capsys.readouterr().out
    assert printed == f"{receiver.url} accepted an event of the agent mailer {form}.\n"


def test_every_test_sends_another_event(receiver: Receiver):
    assert main(["test"]) == main(["test"]) == 0

    assert len({event["id"] for event in receiver.events}) == 2


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (302, "it redirects elsewhere (302), which is never followed: check the address."),
        (400, "it finds the request malformed (400): update agentpulse-sdk."),
        (401, "it takes no such API key (401): check AGENTPULSE_API_KEY."),
        (403, "it doesn't know this API key (403): it may be revoked, create one"),
        (404, "there is no AgentPulse API at this address (404): check AGENTPULSE_ENDPOINT."),
        (413, "it finds the request too large (413)"),
        (429, "the limit of events of your plan is reached (429)"),
        (451, "it answered 451, which no AgentPulse API does: check AGENTPULSE_ENDPOINT."),
        (503, "it failed (503): try again later."),
    ],
)
def test_a_refusal_is_explained_in_plain_words_beside_the_servers_own(
    status: int, words: str, receiver: Receiver, capsys: pytest.CaptureFixture[str]
):
    receiver.status = status

    assert main(["test"]) == 1

    printed = capsys.readouterr()
    assert printed.out == ""
    reason, quoted = printed.err.splitlines()
    assert reason.startswith(f"{receiver.endpoint} did not accept the event: {words}")
    assert quoted == 'Its answer: {"error": "as the test wants"}'
    assert receiver.requests == (1 if status < 400 else 2)  # compressed, then plain


def test_a_web_page_is_no_success(receiver: Receiver, capsys: pytest.CaptureFixture[str]):
    receiver.headers = {"Content-Type": "text/html; charset=utf-8"}

    assert main(["test"]) == 1
    assert capsys.readouterr().err == (
        f"{receiver.endpoint} did not accept the event: it answers with a web page (200), not as "
        "an AgentPulse API: check the address.\n"
    )


def test_the_servers_words_are_shown_without_the_key_and_without_control_characters(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
):
    receiver.status = 403
    receiver.body = f"\x1b[2Jno\nsuch key {KEY} {'x' * 500}".encode()

    assert main(["test"]) == 1

    answer = capsys.readouterr().err.splitlines()[1]
    assert answer.startswith("Its answer: [2Jno such key … xxx")
    assert len(answer) < 250
    assert KEY not in answer


def test_an_endpoint_that_refuses_is_reported(
    refusing: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENTPULSE_ENDPOINT", refusing)

    assert main(["test"]) == 1
    assert "did not accept the event: the connection is refused" in capsys.readouterr().err


def test_what_speaks_no_http_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, speaks_no_http: str
):
    monkeypatch.setenv("AGENTPULSE_ENDPOINT", speaks_no_http)

    assert main(["test"]) == 1
    assert "what listens there doesn't speak HTTP" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"AGENTPULSE_ENABLED": "false"}, "AgentPulse is switched off (enabled is false)."),
        ({"OTEL_SDK_DISABLED": "true"}, "AgentPulse is off, because OTEL_SDK_DISABLED is true."),
        (
            {"AGENTPULSE_FLUSH_INTERVAL": "ten"},
            "AgentPulse is off until this is corrected: AGENTPULSE_FLUSH_INTERVAL is 'ten'",
        ),
        (
            {"AGENTPULSE_API_KEY": "", "AGENTPULSE_ENDPOINT": "https://pulse.example"},
            "AgentPulse is off, because it has no API key",
        ),
    ],
)
def test_where_agentpulse_is_off_nothing_is_sent_and_the_reason_is_printed(
    variables: dict[str, str],
    reason: str,
    receiver: Receiver,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    for name, text in variables.items():
        monkeypatch.setenv(name, text)

    assert main(["test"]) == 1
    assert capsys.readouterr().err.startswith(f"Nothing was sent. {reason}")
    assert receiver.requests == 0


def test_a_proxy_that_is_no_address_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENTPULSE_ENDPOINT", "https://pulse.example")
    monkeypatch.setenv("https_proxy", "http://:no-port")

    assert main(["test"]) == 1
    assert "https_proxy is no address of a proxy" in capsys.readouterr().err
