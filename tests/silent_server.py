"""Start a loopback server that keeps its clients waiting."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nContent-Type: application/xml\r\n\r\n"
FAULTS = ("silent", "stalls", "trickles")


@contextmanager
def silent_server(fault: str = "silent") -> Iterator[int]:
    """Yield the port of a server that never answers.

    Or it answers the headers and then nothing ("stalls"), or a byte every tenth of a second
    ("trickles").
    """
    done = threading.Event()
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.recv(2**16)
            if fault != "silent":
                connection.sendall(HEAD)
            while not done.wait(0.1):
                if fault == "trickles":
                    connection.sendall(b" ")

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                connections.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield int(listener.getsockname()[1])
        done.set()
        listener.shutdown(socket.SHUT_RDWR)
        for connection in connections:
            connection.close()
