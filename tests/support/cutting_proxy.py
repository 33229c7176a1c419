"""A TCP proxy between a client and the server, which cuts connections at a chosen point of what they say."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable

COMMIT = rb"COMMIT;?\0"  # as drivers send it


class Proxy:
    """A TCP proxy on 127.0.0.1 that cuts a connection, or does something else, at one point of it.

    after: bytes in both directions together, over all connections; None: never. before, behind: a pattern of
    what the client says, the `number`-th time; without or with passing it on. then: is called instead of
    cutting, and all goes on. ``total``: bytes seen. ``said``: the times that the pattern was.
    ``answered``: all that the server said.
    """

    def __init__(
        self,
        port: int,
        after: int | None = None,
        *,
        before: bytes = b"",
        behind: bytes = b"",
        number: int = 1,
        then: Callable[[], None] | None = None,
    ) -> None:
        self.to, self.after, self.total, self.cut = port, after, 0, False
        self.pattern = re.compile(before or behind)
        self.passes, self.number, self.said = not before, number, 0
        self.then = then
        self.answered = b""
        self.error: BaseException | None = None
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self.listener.getsockname()[1])
        self.ends: list[socket.socket] = [self.listener]
        self.threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.ends.append(client)
            try:
                server = socket.create_connection(("127.0.0.1", self.to))
            except OSError:  # it is down at the moment
                client.shutdown(socket.SHUT_RDWR)
                continue
            self.ends.append(server)
            severed = threading.Event()  # set before the server can answer what was passed last
            for a, b in ((client, server), (server, client)):
                self._start(self._pump, a, b, a is client, severed)

    def _left(self, data: bytes, asks: bool) -> int:
        """How much of `data` passes before the point that was asked for; -1: it is not there."""
        with self.lock:
            start = self.total
            self.total += len(data)
            if not asks:
                self.answered += data
            if self.cut:
                return -1
            if self.after is not None and self.total > self.after:
                self.cut = True
                return max(0, self.after - start)
            if asks and self.pattern.pattern:
                found = len(self.pattern.findall(data))
                self.said += found
                if found and self.said >= self.number and self.after is None:
                    self.cut = True
                    return len(data) if self.passes else 0
        return -1

    def _pump(
        self, source: socket.socket, target: socket.socket, asks: bool, severed: threading.Event
    ) -> None:
        try:
            while data := source.recv(65536):
                left = self._left(data, asks)
                if severed.is_set():
                    break
                if left < 0:
                    target.sendall(data)
                    continue
                if self.then is None:
                    severed.set()
                target.sendall(data[:left])
                if self.then is None:
                    break
                self.then()
                target.sendall(data[left:])
        except OSError:
            pass
        except BaseException as error:
            self.error = error
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(60)
        for end in self.ends:
            end.close()
        if self.error is not None:
            raise self.error
