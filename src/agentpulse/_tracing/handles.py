"""What `with agentpulse.session(...) as s` and its kin hand to the program."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Literal

from agentpulse._tracing import active
from agentpulse._tracing.description import Description

if TYPE_CHECKING:
    from agentpulse._tracing.recorder import Recorder
    from agentpulse._tracing.step import Step


class Block:
    """A span of an agent, task, trace or tool. Where AgentPulse is off, nothing happens here."""

    def __init__(self, description: Description) -> None:
        """Starts it, and makes it current."""
        self.name = description.name
        recorder = active.recorder
        self._recorder: Recorder | None = recorder
        self.step: Step | None = None if recorder is None else recorder.begin(description)
        if self.step is not None:
            self.step.resume()

    def set_attribute(self, name: str, value: object) -> None:
        """Adds an attribute to the span; what OpenTelemetry has no type for becomes JSON."""
        if self.step is not None:
            self.step.tell(name, value)

    def close(self, error: BaseException | None) -> None:
        """Its block came to its end, or raised."""
        if self.step is None:
            return
        if error is None:
            self.step.ended()
        else:
            self.step.failed(error)


class Session(Block):
    """One run of a session.

    Attributes:
        id: The key under which all of it is found; unique to this run, unless you chose it.
        name: What it was called.
    """

    def __init__(self, description: Description) -> None:
        """Starts it."""
        super().__init__(description)
        options = description.session
        if self.step is not None and self.step.scope.run is not None:
            self.id = self.step.scope.run.id
        else:
            given = None if options is None else options.id
            self.id = given or f"{description.name}:{os.urandom(6).hex()}"
        if self._recorder is not None:
            self._recorder.session_opened(self)

    def log(self, message: str, /, **data: object) -> None:
        """Adds a line to the session's log, with whatever belongs to it."""
        if self.step is not None:
            self.step.log(message, data)

    def set_result(self, result: object) -> None:
        """What came of it: a word (`"success"`), or anything that JSON can tell."""
        if self.step is not None:
            self.step.set_result(result)

    def set_metadata(self, **values: object) -> None:
        """Values that the session, and every span under it from here on, carry.

        Together with those that it has already they are 64 at most; further names are left out.
        """
        if self.step is not None:
            self.step.set_metadata(values)

    def set_user(self, user: str) -> None:
        """For whom it runs, from here on."""
        if self.step is not None:
            self.step.set_user(user)

    def close(self, error: BaseException | None) -> None:
        """It came to its end, or raised."""
        super().close(error)
        if self._recorder is not None:
            self._recorder.session_closed(self)


class Cron(Session):
    """One run of a cron job.

    Attributes:
        run_id: The run's own id, which is its session's too.
        status: "running", then "success" or "error".
        started_at: Seconds since 1970.
    """

    def __init__(self, description: Description) -> None:
        """Starts it."""
        super().__init__(description)
        self.status: Literal["running", "success", "error"] = "running"
        self.started_at = time.time()

    @property
    def run_id(self) -> str:
        """The run's own id."""
        return self.id

    def set_summary(self, summary: str) -> None:
        """A sentence on what the run did."""
        if self.step is not None:
            self.step.set_summary(summary)

    def close(self, error: BaseException | None) -> None:
        """It came to its end, or raised."""
        failed = error is not None and not isinstance(error, GeneratorExit)
        self.status = "error" if failed else "success"
        super().close(error)
