"""``python bench/delay.py HOST PORT MILLISECONDS``: a proxy that makes the way to a server longer.

Every byte arrives MILLISECONDS / 2 later than it was sent, each way, so that a round trip takes MILLISECONDS more; nothing
is held back otherwise. Prints the port that it listens on, on 127.0.0.1, and ends when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import sys


class _Way(asyncio.Protocol):
    """One end of a connection; what it hears goes to ``other``, later."""

    transport: asyncio.Transport

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.other: asyncio.Future[_Way] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._later(lambda other: other.transport.write(data))

    def connection_lost(self, error: Exception | None) -> None:
        self._later(lambda other: other.transport.close())

    def _later(self, act: object) -> None:
        loop = asyncio.get_running_loop()

        def then(other: asyncio.Future[_Way]) -> None:
            if not other.cancelled() and other.exception() is None:
                act(other.result())  # type: ignore[operator]

        loop.call_later(self.seconds, self.other.add_done_callback, then)


class _Client(_Way):
    """The end that a client connected to."""

    def __init__(self, seconds: float, host: str, port: int) -> None:
        super().__init__(seconds)
        self.address = (host, port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, server = await loop.create_connection(lambda: _Way(self.seconds), *self.address)
        except OSError:
            self.transport.close()
            return
        server.other.set_result(self)
        self.other.set_result(server)


async def serve(host: str, port: int, seconds: float) -> None:
    """Until standard input ends. seconds: added each way."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Client(seconds, host, port), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 2000))
