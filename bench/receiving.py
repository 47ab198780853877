"""What the local server takes in a second, what it keeps of it, and how long its page takes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import loads
from agentpulse_exporter._delivery.endpoint import key_file, read_key

PAGES = (10_000, 100_000)
"""Events that the server has when its page is asked for."""
SENDERS = 4


def median(measure: Callable[[], float], runs: int) -> float:
    return statistics.median(measure() for _ in range(runs))


@contextmanager
def local_server(database: Path) -> Iterator[str]:
    """`agentpulse dev` as a process of its own; its address."""
    command = [sys.executable, "-m", "agentpulse", "dev", "--port", "0", "--database", database]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        yield running.stdout.readline().split()[-1]
        running.terminate()


def measured(database: Path, runs: int) -> dict[str, float]:
    found: dict[str, float] = {}
    there = 0
    with local_server(database) as url:
        for events in PAGES:
            bodies = list(loads.requests(range(there, events)))
            started = time.perf_counter()
            with ThreadPoolExecutor(SENDERS) as senders:
                sent = [senders.submit(post, url, bodies[n::SENDERS]) for n in range(SENDERS)]
            taken = (events - there) / (time.perf_counter() - started)
            assert not any(each.exception() for each in sent)
            found["events from many to the local server"] = taken
            found[page_at(events)] = median(lambda: page(url), runs)
            there = events
    found["SQLite of a call"] = database.stat().st_size / there
    return found


def post(url: str, bodies: list[bytes]) -> None:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    headers = {
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
        **authorization(url),
    }
    for body in bodies:
        connection.request("POST", "/v1/ingest", body, headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        response.read()
    connection.close()


def page_at(events: int) -> str:
    return f"the local server's page at {events:,} events"


def page(url: str) -> float:
    """Milliseconds that the page takes."""
    asked = urllib.request.Request(url, headers=authorization(url))
    started = time.perf_counter()
    with urllib.request.urlopen(asked, timeout=120) as answer:
        answer.read()
    return (time.perf_counter() - started) * 1000


def authorization(url: str) -> dict[str, str]:
    """The key that the server left for programs of its user."""
    return {"Authorization": f"Bearer {read_key(key_file(int(url.rpartition(':')[2])))}"}
