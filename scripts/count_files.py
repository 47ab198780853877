"""How many of our files a call passes on each part of its way: `python scripts/count_files.py`.

A file counts where one of its functions runs, in the thread of the program or of our worker, not in
those of the servers here. With `--names` each is listed.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import FrameType
from typing import Any

import openai
from agentpulse_exporter import CostEnrichingExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import agentpulse
from agentpulse.demo.provider import FakeProvider

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = tuple(f"{ROOT / folder}/" for folder in ("src", "exporters/src", "instrumentors/src"))
SERVING = tuple(f"{ROOT / 'src/agentpulse' / folder}/" for folder in ("demo", "server"))
"""Of the SDK, what isn't on the way but serves it here."""
WORKER = "agentpulse"
"""The name of our thread."""
MOST = {
    "streamed chat to the queue": 18,
    "queue to POST": 15,
    "init": 28,
    "cron run to the sender": 20,
    "foreign span to its cost": 9,
}


class Receiver(BaseHTTPRequestHandler):
    """Accepts every batch."""

    def do_POST(self) -> None:  # the name that the base class looks for
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"accepted": 1}).encode()
        self.send_response(202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Logs nothing."""


_running: set[tuple[str, bool]] = set()
"""The files whose functions have run since it was emptied last, and whether in the main thread."""


def _called(frame: FrameType, event: str, _arg: object) -> None:
    path = frame.f_code.co_filename
    # Bodies of modules and classes, which run as they are imported, aren't optimized.
    is_function = event == "call" and frame.f_code.co_flags & CO_OPTIMIZED
    if is_function and path.startswith(FOLDERS) and not _is_imported(frame):
        is_main = (thread := threading.current_thread()) is threading.main_thread()
        if is_main or thread.name == WORKER:
            _running.add((path, is_main))


def _is_imported(frame: FrameType | None) -> bool:
    """Whether the body of a module of ours calls it, for a table of its own."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(FOLDERS):
            return True
        frame = frame.f_back
    return False


@contextmanager
def files(*, of_the_worker: bool = False) -> Iterator[set[str]]:
    """The files whose functions run meanwhile; only those of the worker's thread, or all."""
    _running.clear()
    found: set[str] = set()
    yield found
    found |= {path for path, is_main in _running if not (of_the_worker and is_main)}


def ways(receiver: str, provider: FakeProvider) -> Iterator[tuple[str, set[str]]]:
    """Each part of the way with the files on it."""
    with files() as found:
        agentpulse.init(endpoint=receiver, api_key="ap_count", flush_interval=600)
    yield "init", found
    client = openai.OpenAI(base_url=provider.openai_url, api_key="none")
    hello: list[Any] = [{"role": "user", "content": "Hello"}]

    def ask() -> None:
        list(client.chat.completions.create(model="gpt-4o", messages=hello, stream=True))

    ask()  # once to load what is loaded late
    agentpulse.flush()
    with files() as found:
        ask()
    yield "streamed chat to the queue", found
    with files(of_the_worker=True) as found:
        agentpulse.flush()
    yield "queue to POST", found
    with files() as found, agentpulse.cron("nightly", schedule="0 3 * * *"):
        pass
    yield "cron run to the sender", found
    agentpulse.shutdown()
    others, kept = TracerProvider(), InMemorySpanExporter()
    others.add_span_processor(SimpleSpanProcessor(kept))
    with others.get_tracer("others").start_as_current_span("chat") as span:
        span.set_attributes(
            {
                "gen_ai.system": "openai",
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.usage.prompt_tokens": 10,
                "gen_ai.usage.completion_tokens": 5,
            }
        )
    enriching = CostEnrichingExporter(InMemorySpanExporter())
    enriching.export(kept.get_finished_spans())
    with files() as found:
        enriching.export(kept.get_finished_spans())
    yield "foreign span to its cost", found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", action="store_true", help="list the files")
    names: bool = parser.parse_args().names
    threading.setprofile(_called)
    sys.setprofile(_called)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    is_within = True
    with FakeProvider() as provider:
        for way, found in ways(f"http://127.0.0.1:{server.server_port}", provider):
            shown = sorted(path for path in found if not path.startswith(SERVING))
            is_within &= len(shown) <= MOST[way]
            print(f"{way}: {len(shown)} (at most {MOST[way]})")
            if names:
                print("".join(f"    {Path(path).relative_to(ROOT)}\n" for path in shown), end="")
    server.shutdown()
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
