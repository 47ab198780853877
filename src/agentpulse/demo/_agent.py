"""The example: an agent that a cron job starts at night, with the real client libraries."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self

import anthropic
import openai

import agentpulse
from agentpulse.demo.provider import FakeProvider, fails

_REPORT_USAGE: Any = {"include_usage": True}
_LOOK_UP = {"type": "object", "properties": {"query": {"type": "string"}}}
_RULES = "You answer the mail of a small company, politely and in short sentences. " * 20


class BackupError(Exception):
    """Raised by the backup of every night."""


def _mail(to: str) -> list[Any]:
    return [{"role": "user", "content": f"Answer {to}."}]


class NightShift:
    """The agent with its clients, which talk to one fake provider; a context manager."""

    def __init__(self, provider: FakeProvider) -> None:
        self._provider = provider
        given: dict[str, Any] = {"api_key": "not-needed", "max_retries": 0}
        self._at_openai: dict[str, Any] = {**given, "base_url": provider.openai_url}
        self._at_anthropic: dict[str, Any] = {**given, "base_url": provider.anthropic_url}
        self._openai = openai.OpenAI(**self._at_openai)
        self._anthropic = anthropic.Anthropic(**self._at_anthropic)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._openai.close()
        self._anthropic.close()

    @agentpulse.cron("night-shift", schedule="0 3 * * *", max_runtime=600)
    def run(self) -> None:
        """Does the whole night's work."""
        with agentpulse.session("mail") as session:
            self.do_the_mail()
            session.log("Answered the mail", count=3)
            session.set_result("success")
        try:
            self.back_up()
        except BackupError:
            agentpulse.alert("The backup failed", details={"job": "back-up"})

    @agentpulse.agent("clerk")
    def do_the_mail(self) -> None:
        """All that the agent does in one night."""
        self.read_mail()
        self.write_replies()
        self.file_invoices()
        self.report()

    @agentpulse.tool("search_mail")
    def search_mail(self, query: str) -> str:
        """A tool of the model."""
        return json.dumps([{"from": "Ada", "subject": f"Invoice 17, {query}"}])

    @agentpulse.task("back-up")
    def back_up(self) -> None:
        """A task that fails."""
        raise BackupError

    @agentpulse.task("read-mail")
    def read_mail(self) -> None:
        """A tool call and its answer, then a search by embeddings."""
        tool = {"type": "function", "function": {"name": "search_mail", "parameters": _LOOK_UP}}
        dialog: list[Any] = [{"role": "user", "content": "Is there any mail that needs me?"}]
        chat = self._openai.chat.completions
        first = chat.create(model="gpt-4o-mini", messages=dialog, tools=[tool])  # pyright: ignore[reportArgumentType, reportCallIssue]  # dicts as the API's guide writes them
        for call in first.choices[0].message.tool_calls or ():
            found = self.search_mail("urgent")
            dialog.append(first.choices[0].message)
            dialog.append({"role": "tool", "tool_call_id": call.id, "content": found})
        chat.create(model="gpt-4o-mini", messages=dialog, tools=[tool])  # pyright: ignore[reportArgumentType, reportCallIssue]  # as above
        self._openai.embeddings.create(model="text-embedding-3-small", input=["Invoice 17"])

    @agentpulse.task("write-replies")
    def write_replies(self) -> None:
        """Three at a time, streamed, from both providers."""
        asyncio.run(self._write_replies())

    async def _write_replies(self) -> None:
        async def from_openai(to: str) -> None:
            stream = await openai_client.chat.completions.create(
                model="gpt-4o", messages=_mail(to), stream=True, stream_options=_REPORT_USAGE
            )
            async for _ in stream:
                pass

        async def from_anthropic(to: str) -> None:
            async with anthropic_client.messages.stream(
                model="claude-haiku-4-5", max_tokens=400, messages=_mail(to)
            ) as stream:
                await stream.get_final_message()

        # These belong to one event loop, and each night has a loop of its own.
        async with (
            openai.AsyncOpenAI(**self._at_openai) as openai_client,
            anthropic.AsyncAnthropic(**self._at_anthropic) as anthropic_client,
        ):
            await asyncio.gather(from_openai("Ada"), from_openai("Grace"), from_anthropic("Alan"))

    @agentpulse.task("file-invoices")
    def file_invoices(self) -> None:
        """A cached prompt and a tool, and a provider that is overloaded at first."""
        question: dict[str, Any] = {
            "model": "claude-sonnet-4-6",
            "max_tokens": 400,
            "system": [{"type": "text", "text": _RULES, "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": "File invoice 17."}],
            "tools": [{"name": "file_invoice", "input_schema": _LOOK_UP}],
        }
        self._provider.script(fails(529, "overloaded_error"))
        try:
            self._anthropic.messages.create(**question)
        except anthropic.APIStatusError:
            # A careful agent tries again.
            self._anthropic.messages.create(**question)

    @agentpulse.task("report")
    def report(self) -> None:
        """The Responses API, with reasoning tokens."""
        self._openai.responses.create(model="gpt-5-mini", input="Sum up the night for the boss.")
