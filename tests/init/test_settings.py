"""Settings: an argument wins over a variable, a variable over a default; what is wrong is said."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter
from agentpulse_exporter.settings import ApiKey

import agentpulse
from agentpulse.settings import ROWS, resolve

KEY = "ap_0123456789abcdef"


def test_without_anything_every_setting_has_its_default():
    settings = resolve({}, {})

    assert set(settings.sources.values()) == {"default"}
    assert settings.endpoint == "https://api.agentpulse.dev"
    assert (settings.enabled, settings.auto_patch, settings.capture_messages) == (True, True, False)
    assert (settings.flush_interval, settings.max_queue_size, settings.max_batch_size) == (
        5.0,
        10_000,
        100,
    )
    assert settings.agent_name  # the name of the machine
    assert settings.problems == ()


def test_an_argument_wins_over_a_variable_and_a_variable_over_a_default():
    environ = {"AGENTPULSE_AGENT": "from-environment", "AGENTPULSE_FLUSH_INTERVAL": " 2.5 "}

    settings = resolve({"agent_name": "from-argument", "endpoint": None}, environ)

    assert (settings.agent_name, settings.sources["agent_name"]) == ("from-argument", "argument")
    assert settings.flush_interval == 2.5
    assert settings.sources["flush_interval"] == "AGENTPULSE_FLUSH_INTERVAL"
    assert settings.sources["endpoint"] == "default"


def test_an_empty_variable_is_as_good_as_none():
    assert resolve({}, {"AGENTPULSE_ENDPOINT": " "}) == resolve({}, {})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("api_key", KEY, ApiKey(KEY)),
        ("agent_name", "mailer", "mailer"),
        ("endpoint", "https://pulse.example/base/", "https://pulse.example/base"),
        ("endpoint", "HTTPS://pulse.example:8443", "https://pulse.example:8443"),
        ("endpoint", "http://127.0.0.1:4319", "http://127.0.0.1:4319"),
        ("endpoint", "http://[::1]:4319", "http://[::1]:4319"),
        ("endpoint", "http://localhost:4319", "http://localhost:4319"),
        ("enabled", "False", False),
        ("enabled", "0", False),
        ("capture_messages", "on", True),
        ("auto_patch", "no", False),
        ("flush_interval", "0.5", 0.5),
        ("max_queue_size", "50", 50),
        ("max_batch_size", "500", 500),
        ("debug", "yes", True),
        ("export_all_spans", "1", True),
        ("shutdown_timeout", "0", 0.0),
        ("allow_insecure", "true", True),
        ("flush_on_sigterm", "true", True),
    ],
)
def test_every_variable_is_read(name: str, text: str, value: object):
    variable = ROWS[name].environment

    settings = resolve({}, {str(variable): text})

    assert getattr(settings, name) == value
    assert settings.sources[name] == variable
    assert settings.problems == ()


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("FLUSH_INTERVAL", "ten", "is 'ten'; expected seconds as a number from 0.01 to 86400"),
        ("SHUTDOWN_TIMEOUT", "nan", "is 'nan'; expected seconds as a number from 0 to 86400"),
        ("MAX_QUEUE_SIZE", "-1", "is '-1'; expected a whole number from 1 to 1000000"),
        ("ENABLED", "maybe", "is 'maybe'; expected true or false"),
        ("API_KEY", "sk-other", "can't be used; expected a key of your AgentPulse account"),
        ("ENDPOINT", "https://u:pw@h", "is 'https://…@h'; expected an address with a host"),
        ("ENDPOINT", "HTTP://h", "is 'http://h', where key and events would travel unencrypted"),
    ],
)
def test_a_wrong_variable_is_a_problem_that_says_what_to_do(name: str, text: str, complaint: str):
    settings = resolve({}, {f"AGENTPULSE_{name}": text})

    (problem,) = settings.problems
    assert problem.startswith(f"AGENTPULSE_{name} {complaint}")


@pytest.mark.parametrize("name", ["endpoint", "otlp_endpoint"])
@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://h/v1?key=secret", "'http://h/v1?…'"),
        ("https://h#secret", "'https://h#…'"),
        ("https://u:se/secret@h/v1", "'https://…@h/v1'"),
        ("u:secret@h", "'…@h'"),
        ("https://h/?key=secret@x", "'https://…@x'"),
    ],
)
def test_what_is_secret_in_an_address_is_not_shown(name: str, address: str, shown: str):
    (problem,) = resolve({}, {f"AGENTPULSE_{name.upper()}": address}).problems
    with pytest.raises(agentpulse.SettingError) as raised:
        resolve({name: address}, {})

    assert problem.startswith(f"AGENTPULSE_{name.upper()} is {shown}; expected an address")
    assert str(raised.value).startswith(f"The argument {name} is {shown}; expected an address")
    assert "secret" not in problem + str(raised.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "pulse.example",
        "ftp://pulse.example",
        "https://",
        "https://h:port",
        "https://h:0",
        "https://h?q",
    ],
)
def test_what_is_no_address_is_refused_as_endpoint(endpoint: str):
    with pytest.raises(
        agentpulse.SettingError, match=r"argument endpoint is .* expected an address"
    ):
        resolve({"endpoint": endpoint}, {})


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ({"flush_interval": "5"}, "flush_interval is of type str; expected seconds"),
        ({"flush_interval": True}, "flush_interval is of type bool; expected seconds"),
        ({"max_batch_size": 10.0}, "max_batch_size is of type float; expected a whole number"),
        ({"enabled": "yes"}, "enabled is of type str; expected true or false"),
        ({"api_key": 5}, "api_key is of type int; expected a key"),
        ({"instrument": "openai"}, "instrument is of type str; expected names of libraries"),
        ({"prices": 5}, "prices is of type int; expected a mapping"),
    ],
)
def test_an_argument_of_a_wrong_type_raises_at_once(argument: dict[str, object], complaint: str):
    with pytest.raises(TypeError, match=f"The argument {complaint}"):
        resolve(argument, {})


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ({"flush_interval": 0}, "flush_interval is 0; expected seconds"),
        ({"max_batch_size": 501}, "max_batch_size is 501; expected a whole number from 1 to 500"),
        ({"agent_name": "a\nb"}, "agent_name is 'a\\\\nb'; expected a name"),
        ({"instrument": ("opnai",)}, r"instrument is \('opnai',\); expected names of libraries"),
        ({"endpoint": "http://pulse.example"}, "endpoint is 'http://pulse.example', where key"),
    ],
)
def test_an_argument_with_a_wrong_value_raises_at_once(argument: dict[str, object], complaint: str):
    with pytest.raises(ValueError, match=f"The argument {complaint}"):
        resolve(argument, {})


def test_prices_are_read_from_a_file(tmp_path: Path):
    file = tmp_path / "prices.json"
    file.write_text('{"my-model": {"input": 2.5, "output": 10}}')

    settings = resolve({}, {"AGENTPULSE_PRICES": str(file)})

    assert (settings.prices, settings.problems) == (file, ())
    assert settings.shown("prices") == str(file)


def test_prices_that_make_no_sense_are_refused_with_the_reason(tmp_path: Path):
    missing = tmp_path / "missing.json"

    with pytest.raises(agentpulse.SettingError, match=r"prices can't be used: .*'free'"):
        resolve({"prices": {"my-model": {"input": "free"}}}, {})
    (problem,) = resolve({}, {"AGENTPULSE_PRICES": str(missing)}).problems
    assert problem.startswith(f"AGENTPULSE_PRICES can't be used: The price file {missing}")


def test_a_price_file_that_is_nested_without_end_is_refused_with_the_reason(tmp_path: Path):
    file = tmp_path / "prices.json"
    file.write_text("[" * 200_000)

    (problem,) = resolve({}, {"AGENTPULSE_PRICES": str(file)}).problems

    assert f"The price file {file} isn't JSON" in problem


def test_plain_http_to_another_machine_is_allowed_on_demand():
    settings = resolve({"endpoint": "http://pulse.example", "allow_insecure": True}, {})

    assert settings.endpoint == "http://pulse.example"


@pytest.mark.parametrize("key", ["ap_secret\r\nX-Header: x", "ap_sécret", "secret", "ap_"])
def test_no_message_shows_a_key_that_is_refused(key: str):
    with pytest.raises(agentpulse.SettingError) as refusal:
        resolve({"api_key": key}, {})

    assert "secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


def test_the_key_is_shown_by_its_last_four_characters_at_most():
    settings = resolve({"api_key": KEY}, {})

    assert settings.shown("api_key") == "ap_…cdef"
    assert "api_key=ap_…cdef" in repr(settings)
    assert resolve({"api_key": "ap_short"}, {}).shown("api_key") == "ap_…"


@pytest.fixture
def client() -> Iterator[agentpulse.AgentPulse]:
    yield agentpulse.init(
        api_key=KEY, endpoint="http://127.0.0.1:9", heartbeat_interval=0, auto_patch=False
    )
    agentpulse.shutdown(0)


WAYS_TO_SHOW: list[Callable[[Any], object]] = [
    repr,
    str,
    "{}".format,
    dataclasses.asdict,
    dataclasses.astuple,
    copy.copy,
    copy.deepcopy,
    lambda settings: json.dumps(dataclasses.asdict(settings), default=str),
    lambda settings: json.dumps(dataclasses.asdict(settings), default=dir),
    lambda settings: [*map(repr, attributes_within(settings))],
]


def attributes_within(thing: object, depth: int = 4) -> Iterator[object]:
    """What a crash reporter or a serializer finds that looks into things."""
    yield thing
    slots = getattr(type(thing), "__slots__", ())
    for name in (*getattr(thing, "__dict__", {}), *slots) if depth else ():
        if hasattr(thing, name):
            yield from attributes_within(getattr(thing, name), depth - 1)


@pytest.mark.parametrize("show", WAYS_TO_SHOW)
def test_nothing_that_is_made_of_the_settings_shows_the_key(
    show: Callable[[Any], object], client: agentpulse.AgentPulse
):
    shown = show(client.settings)

    assert KEY not in repr(shown)
    assert KEY not in "".join(map(repr, attributes_within(client)))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_settings_with_a_key_are_not_pickled(protocol: int, client: agentpulse.AgentPulse):
    with pytest.raises(TypeError, match="An API key is not pickled"):
        pickle.dumps(client.settings, protocol)


def test_a_key_is_passed_on_as_it_is(client: agentpulse.AgentPulse):
    key = client.settings.api_key

    assert key == ApiKey(f" {KEY} ") != ApiKey("ap_another")
    assert resolve({"api_key": key}, {}).api_key is key
    with pytest.raises(agentpulse.SettingError, match="api_key can't be used"):
        resolve({"api_key": ApiKey("another secret")}, {})


@pytest.mark.parametrize(
    "mistaken",
    [
        lambda: agentpulse.init(api_key=f"{KEY}…"),
        lambda: agentpulse.init(api_key=KEY, flush_interval=-1),
        lambda: agentpulse.init(api_key=KEY, endpoint="http://pulse.example"),
        lambda: AgentPulseSpanExporter(f"{KEY}…"),
        lambda: AgentPulseSpanExporter(KEY, "nowhere"),
        lambda: AgentPulseSpanExporter(KEY, max_batch_size=0),
    ],
)
def test_a_traceback_with_local_variables_does_not_show_the_key(mistaken: Callable[[], object]):
    with pytest.raises(ValueError, match="expected") as refusal:
        mistaken()

    frames = traceback.StackSummary.extract(
        traceback.walk_tb(refusal.tb), capture_locals=True, lookup_lines=False
    )
    ours = [frame for frame in frames if frame.filename != __file__]
    assert ours
    assert KEY not in "".join(str(frame.locals) for frame in ours)


@pytest.mark.parametrize(
    ("mode", "captures"),
    [
        ("SPAN_ONLY", True),
        ("span_and_event", True),
        ("EVENT_ONLY", False),
        ("NO_CONTENT", False),
        ("nonsense", False),
    ],
)
def test_capture_follows_the_standard_variable_where_ours_says_nothing(mode: str, captures: bool):
    variable = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

    settings = resolve({}, {variable: mode})

    assert settings.capture_messages is captures
    assert settings.sources["capture_messages"] == variable
    assert resolve({"capture_messages": False}, {variable: mode}).capture_messages is False
    ours = {variable: mode, "AGENTPULSE_CAPTURE_MESSAGES": "true"}
    assert resolve({}, ours).capture_messages is True


def test_init_takes_exactly_the_settings_of_the_table_and_a_provider():
    assert set(inspect.signature(agentpulse.init).parameters) == {*ROWS, "tracer_provider"}
    with pytest.raises(TypeError, match="api_kye"):
        agentpulse.init(api_kye=KEY)  # pyright: ignore[reportCallIssue]  # that is the test


@pytest.mark.parametrize(
    "mistaken",
    [
        lambda: agentpulse.init(endpoint="http://pulse.example"),
        lambda: AgentPulseSpanExporter(endpoint="http://pulse.example"),
        lambda: AgentPulseSpanExporter(max_batch_size=0),
    ],
)
def test_nor_does_it_show_a_key_of_the_environment(
    mistaken: Callable[[], object], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENTPULSE_API_KEY", KEY)

    test_a_traceback_with_local_variables_does_not_show_the_key(mistaken)
