"""The key of a local server of this user: found by the port, tried first, looked up anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from agentpulse_exporter import AgentPulseSpanExporter
from agentpulse_exporter._delivery.local_key import key_file
from fakes.pipe import CALL, KEY, Pipe
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

THEIRS = "ap_local_0123456789"
EARLIER = "ap_local_earlier"


@dataclass
class Guarded(Receiver):
    """A receiver that takes one key only."""

    key: str = THEIRS
    comes_up_late: bool = False
    """Whether its key is where it should be only after somebody was refused."""

    def judge(self, headers: dict[str, str], path: str, raw: bytes) -> tuple[int, dict[str, str]]:
        if headers.get("Authorization") == f"Bearer {self.key}":
            return super().judge(headers, path, raw)
        self.requests.append({"headers": headers})
        if self.comes_up_late:
            leave(self, self.key)
        return 403 if headers.get("Authorization", "").startswith("Bearer ap_") else 401, {}

    @property
    def given(self) -> list[str | None]:
        """The keys that came, in order."""
        return [request["headers"].get("Authorization") for request in self.requests]


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with Guarded() as guarded:
        yield guarded


def leave(receiver: Receiver, text: str | bytes) -> Path:
    """Leaves a key where a local server on the receiver's port does."""
    file = key_file(urlsplit(receiver.url).port or 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())
    return file


def export(url: str, **given: Any) -> dict[str, int]:
    """Sends a span by the exporter behind a stock processor; what was dropped, and why."""
    exporter = AgentPulseSpanExporter(endpoint=url, **given)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("tests").start_span("chat gpt-4o", attributes=CALL).end()
    provider.shutdown()
    return dict(exporter.stats().dropped)


def test_a_local_servers_key_is_found_by_its_port(guarded: Guarded):
    leave(guarded, THEIRS)

    assert export(guarded.url) == {}
    assert export(guarded.url.replace("127.0.0.1", "localhost")) == {}
    assert guarded.given == [f"Bearer {THEIRS}"] * len(guarded.requests)
    assert len(guarded.of_kind("llm_call")) == 2


def test_a_key_for_the_hosted_api_stays_in_the_program_where_a_local_server_has_its_own(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
):
    leave(guarded, THEIRS)
    monkeypatch.setenv("AGENTPULSE_API_KEY", KEY)

    assert export(guarded.url) == {}
    assert export(guarded.url, api_key=KEY) == {}
    assert set(guarded.given) == {f"Bearer {THEIRS}"}


def test_the_key_that_was_given_is_taken_where_a_server_that_is_gone_left_its_own(
    guarded: Guarded,
):
    leave(guarded, EARLIER)

    assert export(guarded.url, api_key=THEIRS) == {}
    assert guarded.given[:2] == [f"Bearer {EARLIER}", f"Bearer {THEIRS}"]
    assert len(guarded.of_kind("llm_call")) == 1


@pytest.mark.parametrize("left", [None, EARLIER])
@pytest.mark.parametrize("given", [None, KEY])
def test_a_server_that_comes_up_just_now_loses_nothing(
    left: str | None, given: str | None, guarded: Guarded
):
    if left:
        leave(guarded, left)
    guarded.comes_up_late = True

    assert export(guarded.url, api_key=given) == {}
    assert len(guarded.of_kind("llm_call")) == 1


def test_a_program_follows_a_server_that_is_started_again_and_again(
    guarded: Guarded, pipe: Callable[..., Pipe]
):
    sending = pipe(guarded.url)

    for run in range(3):
        guarded.key = f"ap_local_{run}"
        leave(guarded, guarded.key)
        sending.call(**{"gen_ai.response.id": f"{run}"})
        assert sending.processor.flush()

    assert [event["data"]["response_id"] for event in guarded.of_kind("llm_call")] == [*"012"]
    stats = sending.processor.stats()
    assert (stats.dropped, stats.requests) == ({}, len(guarded.requests))


def test_where_no_key_is_taken_it_is_said_and_counted_as_ever(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
):
    leave(guarded, EARLIER)

    assert export(guarded.url, api_key=KEY) == {"unauthorized": 1}
    # Once compressed and once plain, for nothing says which of the two was refused.
    assert guarded.given == [f"Bearer {EARLIER}", f"Bearer {KEY}"] * 2
    assert EARLIER not in caplog.text
    assert KEY not in caplog.text


def test_without_a_key_of_either_sort_none_is_sent(receiver: Receiver):
    assert export(receiver.url) == {}

    (request, *_) = receiver.requests
    assert "Authorization" not in request["headers"]


@pytest.mark.parametrize(
    "left",
    [b"", b"\n", b"sk-other", b"ap_", b"ap_a b", b"ap_\xff", b"ap_x\nap_y", b"ap_" + b"x" * 9999],
    ids=lambda left: repr(left)[:12],
)
def test_a_file_that_holds_no_key_is_as_none(left: bytes, receiver: Receiver):
    leave(receiver, left)

    assert export(receiver.url, api_key=KEY) == {}
    assert {request["headers"]["Authorization"] for request in receiver.requests} == {
        f"Bearer {KEY}"
    }


@pytest.mark.parametrize("obstacle", ["no home", "a folder"])
def test_what_can_not_be_read_is_as_none(
    obstacle: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    def homeless() -> Path:
        raise RuntimeError

    if obstacle == "no home":
        monkeypatch.delenv("XDG_DATA_HOME")
        monkeypatch.delenv("LOCALAPPDATA", raising=False)
        monkeypatch.setattr(Path, "home", homeless)
    else:
        leave(receiver, b"").unlink()
        key_file(urlsplit(receiver.url).port or 0).mkdir()

    assert export(receiver.url) == {}


def test_no_other_machine_is_sent_a_local_key(monkeypatch: pytest.MonkeyPatch):
    # To a proxy on this machine, so that nothing leaves it.
    with Receiver() as proxy:
        leave(proxy, THEIRS)
        port = urlsplit(proxy.url).port
        monkeypatch.setenv("http_proxy", proxy.url)
        export(f"http://example.com:{port}", api_key=KEY, allow_insecure=True)

    assert {request["headers"]["Authorization"] for request in proxy.requests} == {f"Bearer {KEY}"}


def test_a_folder_that_the_program_chooses_later_changes_nothing(
    guarded: Guarded, pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
):
    sending = pipe(guarded.url)
    leave(guarded, THEIRS)
    monkeypatch.setenv("XDG_DATA_HOME", os.devnull)
    sending.call()

    assert sending.processor.flush()
