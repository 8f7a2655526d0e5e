"""The places for streams: a stream without an attempt gives its place back at once, and an attempt has only one.

Gradio leaves a stream its place until the browser closes it, or has sent nothing for its time limit. What ends one
earlier is what Gradio's own route for closing does.
"""

import threading
from weakref import WeakValueDictionary

from anyio import from_thread
from gradio.context import LocalContext
from gradio.queueing import Event


class Streams:
    """Which stream belongs to which attempt. Safe to share between threads."""

    def __init__(self):
        self._streams: WeakValueDictionary[str, Event] = WeakValueDictionary()  # by token; Gradio holds the open ones
        self._lock = threading.Lock()

    def keep(self, token: str) -> None:
        """The stream whose frame is being handled becomes the attempt's; the one that was it before ends."""
        stream = _handled()
        if stream is None:
            return
        with self._lock:
            before = self._streams.get(token)
            self._streams[token] = stream
        if before is not None and before is not stream:
            before.closed = True
            from_thread.run_sync(before.signal.set)  # it waits for a frame, in the server's loop

    def end(self) -> None:
        """The stream whose frame is being handled ends with the answer to it."""
        if stream := _handled():
            stream.closed = True


def _handled() -> Event | None:
    """None where a handler is not called by the server."""
    blocks, event = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    return blocks._queue.event_ids_to_events.get(event) if blocks and event else None
