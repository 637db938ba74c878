"""uvicorn's WebSocket protocol with one more ASGI extension: writing finished frames straight to the transport.

The hub's messages are the same bytes for thousands of clients: server frames carry no mask and ours no compression. So
they are framed once, and a socket costs one ``transport.write``. uvicorn is told to use it by
``ws="market.streaming.server:SocketProtocol"``; an application finds the connection as
``scope["extensions"]["market.frames"]["wire"]``.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from market.streaming.protocol import MAX_MESSAGE_BYTES
from market.streaming.sockets import SOFT_BACKLOG_BYTES

EXTENSION: Final = "market.frames"
CLOSE_GRACE_S: Final = 2.0  # for the peer's goodbye; a stalled peer would hold its buffers for many minutes
# The kernel would let a stalled reader keep 4 MiB of ours; prices that old are of no use to anybody.
KERNEL_BUFFER_BYTES: Final = 128 * 1024

log = logging.getLogger(__name__)
quiet = logging.getLogger("uvicorn.error.sockets")  # a line for each of 5,000 reconnects would cost more than they do
quiet.setLevel(logging.WARNING)


def _nothing() -> None:
    pass


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection; also the hub's ``Wire`` for it."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.logger = quiet
        self.conn.available_extensions = []  # no per-message deflate: frames are shared, and it costs 300 kB a socket
        self.conn.max_message_size = MAX_MESSAGE_BYTES
        self.ping_interval = None  # the stream has its own heartbeat, which also proves that the client's code runs
        self.write: Callable[[bytes], None] = self._discard
        self.backlog: Callable[[], int] = lambda: 0
        self._drained: Callable[[], None] = _nothing
        self._lost: Callable[[], None] = _nothing

    # --- the wire ----------------------------------------------------------------------------------------------------

    def listen(self, drained: Callable[[], None], lost: Callable[[], None]) -> None:
        """Call ``drained`` when a full backlog has gone out, ``lost`` when no more can be written."""
        self._drained, self._lost = drained, lost
        if self.conn.state is not State.OPEN or self.transport.is_closing():
            self.loop.call_soon(lost)  # it ended between the handshake and now

    def close(self, code: int, reason: str) -> None:
        """Say goodbye with a code, behind what is already written, and cut off a peer that does not answer."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CLOSE_GRACE_S, self.transport.abort)

    def _discard(self, frames: bytes) -> None:
        """Writing before the connection is made or after it was lost goes nowhere."""

    def _end(self) -> None:
        self._lost()
        self.write = self._discard

    # --- what uvicorn calls ------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.write = transport.write
        self.backlog = transport.get_write_buffer_size
        transport.set_write_buffer_limits(high=SOFT_BACKLOG_BYTES, low=SOFT_BACKLOG_BYTES // 4)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._drained()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            # The application's task has been made and not begun, so it sees this.
            self.scope["extensions"][EXTENSION] = {"wire": self}

    def handle_close(self, event: Frame) -> None:
        self._end()
        super().handle_close(event)
        self.loop.call_later(CLOSE_GRACE_S, self.transport.abort)

    def handle_parser_exception(self) -> None:
        self._end()
        super().handle_parser_exception()
        self.loop.call_later(CLOSE_GRACE_S, self.transport.abort)

    def shutdown(self) -> None:
        self._end()
        super().shutdown()
        self.loop.call_later(CLOSE_GRACE_S, self.transport.abort)
