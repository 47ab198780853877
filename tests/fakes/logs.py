"""Log events, as a logger provider of the program's own takes them."""

from __future__ import annotations

import json
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor


class Logs(LogRecordProcessor):
    """What was emitted on a logger provider of the test's own."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.provider = LoggerProvider(shutdown_on_exit=False)
        self.provider.add_log_record_processor(self)

    def on_emit(self, log_record: Any) -> None:
        self.records.append(log_record)

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True

    def taken(self) -> list[dict[str, Any]]:
        """What came since it was last asked: name, severity, place and attributes."""
        records, self.records = self.records, []
        return [
            {
                "name": each.log_record.event_name,
                "severity": each.log_record.severity_text,
                "number": each.log_record.severity_number.value,
                "trace": each.log_record.trace_id,
                "span": each.log_record.span_id,
                "attributes": plain(each.log_record.attributes),
            }
            for each in records
        ]

    def text(self) -> str:
        """All of it."""
        return "\n".join(
            json.dumps(plain(each.log_record.attributes), default=str) for each in self.records
        )


def plain(value: Any) -> Any:
    """A value as JSON has it: the SDK freezes what it is given."""
    if hasattr(value, "items"):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, tuple | list) else value
