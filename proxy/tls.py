"""A TLS link: SSLObject over MemoryBIO, between a transport and whatever speaks inside.

To the transport below it is a receiver; to the receiver above it is a transport, so that HTTP
framing and opaque forwarding never know. Writes of one loop turn leave as one record run.
close_notify is the end of a side (half-close); a bare end of the socket is a loss, so that a
cut connection never passes for a complete body (RFC 8446 §6.1).
"""

from __future__ import annotations

import contextlib
import ssl
from asyncio import AbstractEventLoop
from collections.abc import Callable
from time import thread_time
from typing import Any, Final

from mesh.core.errors import PeerError
from proxy.seams import Receiver, Transport

RECORD: Final = 16 * 1024
PIECE: Final = 64 * 1024  # bytes at once through a MemoryBIO, which never gives memory back
CRUMB: Final = 64  # bytes of a record; a peer that sends such may send nothing else
CRUMBS: Final = 4 * 1024  # bytes of such records at once
MAX_IDLE: Final = 20 * 1024  # bytes that carried nothing: an unfinished record and some more
WORTH: Final = 32  # such bytes that a byte of data makes good: records of one byte have 22


class Flusher:
    """Links with something to send, flushed once per loop turn."""

    __slots__ = ("_call_soon", "_dirty")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._dirty: list[TlsLink] = []

    def add(self, link: TlsLink) -> None:
        if not self._dirty:
            self._call_soon(self._flush)
        self._dirty.append(link)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for link in dirty:
            link.flush()


class TlsLink:
    """One TLS connection, either side. `opened` is called once, with the link or an error."""

    __slots__ = (
        "_closing",
        "_flusher",
        "_idle",
        "_in",
        "_inner",
        "_lost",
        "_opened",
        "_out",
        "_paused",
        "_pending",
        "_received_end",
        "_sent_end",
        "_spent",
        "_transport",
        "ssl",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        flusher: Flusher,
        opened: Callable[[TlsLink, BaseException | None], None],
        *,
        server_name: str | None = None,
        session: ssl.SSLSession | None = None,
        spent: Callable[[float], None] | None = None,
    ) -> None:
        """`spent` hears how many seconds of CPU time each step of the handshake took."""
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self.ssl = context.wrap_bio(
            self._in,
            self._out,
            server_side=server_name is None,
            server_hostname=server_name,
            session=session,
        )
        self._flusher = flusher
        self._opened: Callable[[TlsLink, BaseException | None], None] | None = opened
        self._spent = spent
        self._idle = 0  # bytes that came and carried nothing
        self._pending: list[bytes] = []
        self._inner: Receiver | None = None
        self._closing = self._lost = False
        self._sent_end = self._received_end = False
        self._paused = False
        self._transport: Transport

    # -- below: the transport calls -----------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:
        self._transport = transport
        self._handshake()

    def data_received(self, data: bytes) -> None:
        if len(data) > CRUMBS:
            most = CRUMBS if data[3] == 0 and data[4] <= CRUMB else PIECE
            if len(data) > most:
                for at in range(0, len(data), most):
                    if not self._lost:
                        self._take(data[at : at + most])
                return
        self._take(data)

    def _take(self, data: bytes) -> None:
        self._in.write(data)
        self._idle += len(data)
        if self._opened is not None:
            self._handshake()
        else:
            self._read()

    def eof_received(self) -> bool:
        if not self._received_end:
            self._fail(ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "connection cut without close_notify"))
        return True

    def connection_lost(self, error: BaseException | None) -> None:
        self._lost = self._closing = True
        if self._opened is not None:
            opened, self._opened = self._opened, None
            opened(self, error or ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "closed in handshake"))
        if self._inner is not None:
            inner, self._inner = self._inner, None
            inner.connection_lost(error)

    def pause_writing(self) -> None:
        self._paused = True
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._paused = False
        if self._inner is not None:
            self._inner.resume_writing()

    # -- above: the receiver calls ------------------------------------------------------------

    def set_protocol(self, inner: Any) -> None:
        """Put the receiver of the decrypted bytes in place."""
        self._inner = inner

    def write(self, data: bytes) -> None:
        if not self._pending:
            self._flusher.add(self)
        self._pending.append(data)

    def take_back(self, data: bytes) -> bool:
        """Whether `data` was the last to be written, has not gone, and now never will."""
        if self._pending and self._pending[-1] is data:
            self._pending.pop()
            return True
        return False

    def write_eof(self) -> None:
        if not self._sent_end and not self._lost:
            self.flush()
            self._send_end()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.flush()
        self._send_end()
        if not self._lost:
            self._transport.close()

    def abort(self) -> None:
        self._closing = True
        self._pending.clear()
        if not self._lost:
            self._transport.abort()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        if not self._lost and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._lost and not self._transport.is_closing():
            self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size() + sum(map(len, self._pending))

    def get_extra_info(self, name: str) -> Any:
        return self.ssl if name == "ssl_object" else self._transport.get_extra_info(name)

    # -- inside -------------------------------------------------------------------------------

    def flush(self) -> None:
        """Encrypt and send what was written, in one go."""
        pending = self._pending
        if not pending or self._lost or self._sent_end:
            pending.clear()
            return
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        pending.clear()
        try:
            if len(data) <= PIECE:
                self.ssl.write(data)
            else:
                self._write_pieces(data)
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._send()

    def _write_pieces(self, data: bytes) -> None:
        for at in range(0, len(data), PIECE):
            self.ssl.write(data[at : at + PIECE])
            self._send()

    def _send(self) -> None:
        data = self._out.read()
        if data and not self._lost and not self._transport.is_closing():
            self._transport.write(data)

    def _send_end(self) -> None:
        if self._sent_end or self._lost or self._opened is not None:
            return
        self._sent_end = True
        with contextlib.suppress(ssl.SSLError):  # the peer's close_notify is not here yet
            self.ssl.unwrap()
        self._send()

    def _handshake(self) -> None:
        try:
            self._step()
        except ssl.SSLWantReadError:
            self._send()
            return
        except (ssl.SSLError, ValueError) as error:
            self._send()  # the alert
            self._fail(error)
            return
        opened, self._opened = self._opened, None
        self._idle = self._in.pending
        self._send()
        if opened is not None:
            opened(self, None)
        if self._in.pending and not self._lost:
            self._read()

    def _step(self) -> None:
        """Go on with the handshake, and tell what it cost."""
        began = thread_time()
        try:
            self.ssl.do_handshake()
        finally:
            if self._spent is not None:
                self._spent(thread_time() - began)

    def _read(self) -> None:
        """Decrypt what came; the receiver above gets it in one piece."""
        link, pending = self.ssl, self._in
        parts: list[bytes] = []
        ended = False
        failure: ssl.SSLError | None = None
        try:
            while not ended:
                data = link.read(RECORD)
                if data:
                    parts.append(data)
                    if not pending.pending and not link.pending():
                        break
                else:
                    ended = True
        except ssl.SSLWantReadError:
            if self._out.pending:
                self._send()
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError as error:
            failure = error
        if parts:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            self._idle = max(0, self._idle - len(data) * WORTH)
            if self._inner is not None:
                self._inner.data_received(data)
        if failure is not None:
            self._fail(failure)
        elif self._idle > MAX_IDLE:  # each KeyUpdate (RFC 8446 §4.6.3) costs us 30 us
            self._fail(PeerError("tls_flood", "TLS records that carry nothing"))
        elif ended and not self._received_end:
            self._end()

    def _end(self) -> None:
        """close_notify: the peer's side has ended; ours may go on."""
        self._received_end = True
        if self._inner is not None and not self._inner.eof_received():
            self.close()

    def _fail(self, error: BaseException) -> None:
        if self._lost:
            return
        self._closing = True
        self._transport.abort() if self._opened is None else self._transport.close()
        self.connection_lost(error)
