"""The table of settings: each has an argument of `init`, a variable, a default and a sentence.

The README shows the same table, and a test compares the two.
"""

# No `from __future__ import annotations` here: the rows are read from the annotations.

import dataclasses
import inspect
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

from agentpulse.settings import kinds
from agentpulse.settings.kinds import Kind

if TYPE_CHECKING:
    from agentpulse_exporter.settings import ApiKey

DEFAULT = "default"
"""The source of a value that nobody gave."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a setting is, beside its name, type and default."""

    environment: str | None
    kind: Kind
    sentence: str
    default_in_words: str | None = None
    """Where the default itself doesn't say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the SDK runs by, and where each value came from. The API key shows no more than its end.

    So a copy, `dataclasses.asdict` and `repr` don't show it; pickling raises TypeError.
    """

    api_key: Annotated[
        "ApiKey | None",
        Row(
            "AGENTPULSE_API_KEY",
            kinds.KEY,
            "The `ap_…` key of your account. Without one nothing is sent and nothing is patched; "
            "an endpoint on this machine needs none, and the key of a local server of yours is "
            "found by itself.",
        ),
    ] = None
    agent_name: Annotated[
        str,
        Row(
            "AGENTPULSE_AGENT",
            kinds.TEXT,
            "The name under which this program's events appear.",
            "host name",
        ),
    ] = field(default_factory=socket.gethostname)
    endpoint: Annotated[
        str,
        Row(
            "AGENTPULSE_ENDPOINT",
            kinds.ENDPOINT,
            "Where events are sent; plain `http` only to this machine, unless `allow_insecure`.",
        ),
    ] = "https://api.agentpulse.dev"
    enabled: Annotated[
        bool,
        Row(
            "AGENTPULSE_ENABLED",
            kinds.SWITCH,
            "`false` is the kill switch: nothing is patched, no thread runs, every function does "
            "nothing; so it is with the exporter and `instrument()` in your own pipeline.",
        ),
    ] = True
    capture_messages: Annotated[
        bool,
        Row(
            "AGENTPULSE_CAPTURE_MESSAGES",
            kinds.SWITCH,
            "Whether prompts, answers and exception texts are on spans and sent. Where neither "
            "says, `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` does (`SPAN_ONLY`, "
            "`SPAN_AND_EVENT`; with `EVENT_ONLY` they are on log events alone, and not sent).",
        ),
    ] = False
    redact: Annotated[
        Callable[[str], str] | None,
        Row(
            None,
            kinds.REDACTION,
            "A function that is given each captured text and returns what is sent instead of it; "
            "where it fails, the event is dropped, and counted.",
        ),
    ] = None
    auto_patch: Annotated[
        bool,
        Row("AGENTPULSE_AUTO_PATCH", kinds.SWITCH, "Whether the LLM libraries are instrumented."),
    ] = True
    instrument: Annotated[
        tuple[str, ...] | None,
        Row(None, kinds.LIBRARIES, 'Which libraries, for example `("openai",)`.', "all"),
    ] = None
    flush_interval: Annotated[
        float,
        Row(
            "AGENTPULSE_FLUSH_INTERVAL",
            kinds.seconds(0.01, example="5"),
            "Seconds between two sendings.",
        ),
    ] = 5.0
    max_queue_size: Annotated[
        int,
        Row(
            "AGENTPULSE_MAX_QUEUE_SIZE",
            kinds.count(1, 1_000_000),
            "Events that wait at most; the oldest are dropped first, and counted. "
            "32 MiB of text is a second bound.",
        ),
    ] = 10_000
    max_batch_size: Annotated[
        int,
        Row(
            "AGENTPULSE_MAX_BATCH_SIZE",
            kinds.count(1, 500),
            "Events in one request; the free plan accepts 100, the pro plan 500.",
        ),
    ] = 100
    debug: Annotated[
        bool,
        Row("AGENTPULSE_DEBUG", kinds.SWITCH, "Whether our own log is written to stderr."),
    ] = False
    prices: Annotated[
        Mapping[str, object] | Path | None,
        Row(
            "AGENTPULSE_PRICES",
            kinds.PRICES,
            "Your own prices by model, a mapping or the path of a JSON file; "
            "they win over the built-in ones.",
        ),
    ] = None
    export_all_spans: Annotated[
        bool,
        Row(
            "AGENTPULSE_EXPORT_ALL_SPANS",
            kinds.SWITCH,
            "Whether spans that have nothing to do with agents or LLM calls are sent too.",
        ),
    ] = False
    otlp_endpoint: Annotated[
        str | None,
        Row(
            "AGENTPULSE_OTLP_ENDPOINT",
            kinds.ENDPOINT,
            "Where the same spans, with their cost, are sent by OTLP over HTTP too, for example "
            "`http://localhost:4318` (extra `otlp`).",
        ),
    ] = None
    shutdown_timeout: Annotated[
        float,
        Row(
            "AGENTPULSE_SHUTDOWN_TIMEOUT",
            kinds.seconds(0, example="5"),
            "Seconds that the end of the process may wait for what is queued.",
        ),
    ] = 5.0
    heartbeat_interval: Annotated[
        float,
        Row(
            "AGENTPULSE_HEARTBEAT_INTERVAL",
            kinds.seconds(0, example="300"),
            "Seconds between two signs of life; 0 sends none.",
        ),
    ] = 300.0
    allow_insecure: Annotated[
        bool,
        Row(
            "AGENTPULSE_ALLOW_INSECURE",
            kinds.SWITCH,
            "Allows plain `http` to another machine: key and events can then be read on the way.",
        ),
    ] = False
    flush_on_sigterm: Annotated[
        bool,
        Row(
            "AGENTPULSE_FLUSH_ON_SIGTERM",
            kinds.SWITCH,
            "Whether SIGTERM sends what is queued before it ends the process "
            "(where `init` runs in the main thread).",
        ),
    ] = False
    sources: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """By setting: "argument", the name of a variable, or "default"."""
    problems: tuple[str, ...] = ()
    """What makes no sense in the environment, a sentence each; those settings have defaults."""

    def shown(self, name: str) -> str:
        """A setting as it may be printed: of the API key, the last four characters at most."""
        value = getattr(self, name)
        return "none" if value is None else ROWS[name].kind.show(value)


ROWS: Mapping[str, Row] = MappingProxyType(
    {
        name: annotation.__metadata__[0]
        for name, annotation in inspect.get_annotations(Settings).items()
        if hasattr(annotation, "__metadata__")
    }
)
"""The rows by the names of the settings, which are the arguments of `init`."""


def documentation_rows() -> list[tuple[str, str, str, str]]:
    """Argument, environment variable, default and sentence of each setting, for people."""
    defaults = {column.name: column.default for column in dataclasses.fields(Settings)}
    return [
        (name, row.environment or "none", _in_words(row, defaults[name]), row.sentence)
        for name, row in ROWS.items()
    ]


def _in_words(row: Row, default: object) -> str:
    if row.default_in_words:
        return row.default_in_words
    if default is None:
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)
