"""A TCP proxy before a server on the loopback interface, with two faults.

- shut: new connections are refused and open ones cut, until it is opened;
- throttle: every request is answered with S3's SlowDown error, until it is opened.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.e2e import tools

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Gate:
    """Forward `port` to `server_port`; `throttled` counts the SLOW_DOWN answers."""

    def __init__(self, server_port: int) -> None:
        (self.port,) = tools.free_ports(1)
        self._server_port = server_port
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._slow = False
        self.throttled = 0

    def open(self) -> None:
        self._slow = False
        if self._server is None:
            self._do(self._listen())

    def throttle(self) -> None:
        """Answer every request with SLOW_DOWN until the gate is opened."""
        self._slow = True
        self._do(self._cut())

    def shut(self) -> None:
        self._do(self._refuse())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0.1)  # let their readers notice

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._slow:
                await reader.read(1 << 16)
                self.throttled += 1
                head = f"HTTP/1.1 503 Slow Down\r\nContent-Length: {len(SLOW_DOWN)}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode() + SLOW_DOWN)
                await writer.drain()
            else:
                there = await asyncio.open_connection("127.0.0.1", self._server_port)
                await asyncio.gather(self._copy(reader, there[1]), self._copy(there[0], writer))
        except OSError:
            pass  # an end has closed its connection
        finally:
            writer.close()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        self._open.add(sink)
        try:
            with suppress(OSError):
                while data := await source.read(1 << 16):
                    sink.write(data)
                    await sink.drain()
        finally:
            self._open.discard(sink)
            sink.close()

    def _do(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)  # type: ignore[arg-type]


@contextmanager
def gate_before(server_port: int) -> Iterator[Gate]:
    """Start an open gate before a server."""
    gate = Gate(server_port)
    thread = threading.Thread(target=gate._loop.run_forever, daemon=True)
    thread.start()
    gate.open()
    try:
        yield gate
    finally:
        gate.shut()
        gate._loop.call_soon_threadsafe(gate._loop.stop)
        thread.join(10)
        gate._loop.close()
