"""How long each chunk of a stream took to come after the one before, where that is measured.

The look at the clock for every chunk, and the recording of some at a time, are only made where
there is a meter provider.
"""

from __future__ import annotations

from itertools import pairwise

from agentpulse_instrumentation import semconv
from agentpulse_instrumentation.metrics import Metrics
from agentpulse_instrumentation.operation import Accumulator, Attributes, Operation
from agentpulse_instrumentation.shield import shield

_RECORD = shield("record the times of chunks")


class ChunkTimes:
    """The chunks of one stream."""

    __slots__ = ("_arrivals", "_attributes", "_metrics", "_operation")

    def __init__(self, metrics: Metrics, operation: Operation, attributes: Attributes) -> None:
        """`attributes` are those of the request."""
        self._metrics = metrics
        self._operation = operation
        self._attributes = attributes
        self._arrivals: list[float] = []

    def arrived(self, at: float) -> None:
        """The next chunk came, at this time of `perf_counter`."""
        self._arrivals.append(at)

    def record(self, accumulator: Accumulator | None) -> None:
        """Records those that came since it was last called; all of them are in the accumulator."""
        if len(self._arrivals) < 2:
            return
        with _RECORD:
            if accumulator is not None and semconv.RESPONSE_MODEL not in self._attributes:
                self._attributes = self._with_model(accumulator)
            arrivals, self._arrivals = self._arrivals, self._arrivals[-1:]
            gaps = [later - earlier for earlier, later in pairwise(arrivals)]
            self._metrics.record_chunks(gaps, self._attributes)

    def _with_model(self, accumulator: Accumulator) -> Attributes:
        answer: Attributes = {}
        self._operation.answer.read(accumulator.answer(), answer)
        model = answer.get(semconv.RESPONSE_MODEL)
        if model is None:
            return self._attributes
        # A request can name a stored prompt or a deployment instead.
        named = {semconv.RESPONSE_MODEL: model, semconv.REQUEST_MODEL: model}
        return {**named, **self._attributes}
