"""What Celery's test works off: a call for each task, that knows nothing of AgentPulse."""

from __future__ import annotations

import os
from pathlib import Path

import openai
from celery import Celery

FOLDER = Path(os.environ["TASKS_FOLDER"])
app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    f"{name}_folder{way}": str(FOLDER)
    for name, way in (("data", "_in"), ("data", "_out"), ("control", ""))
}
client = openai.OpenAI(api_key="x", base_url=os.environ["PROVIDER_URL"])


@app.task
def ask(name: str) -> None:
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x"}])
    (FOLDER / f"{name}.done").touch()
