"""A command that finds nothing to do needs one connection and a bounded number of round trips."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_project import SampleProject
from sqlalchemy.engine import make_url

from migrate_ext.testing import embedded as server


class Proxy:
    """Stands between one client at a time and the server, and counts connections and questions.

    A question is what the server answers with ReadyForQuery: a simple query or a Sync.
    """

    def __init__(self, port: int) -> None:
        self.to = port
        self.connections = 0
        self.questions = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            client, _ = self.listener.accept()
            with client, socket.create_connection(("127.0.0.1", self.to)) as upstream:
                self.connections += 1
                answers = threading.Thread(target=self.copy, args=(upstream, client))
                answers.start()
                closed = self.read(client, upstream)
                upstream.shutdown(socket.SHUT_WR)
                answers.join()
            if closed:
                return

    @staticmethod
    def copy(source: socket.socket, to: socket.socket) -> None:
        while data := source.recv(65536):
            to.sendall(data)

    def read(self, client: socket.socket, upstream: socket.socket) -> bool:
        """Frontend messages: untyped ones until the start-up message (a request for SSL comes first), then typed.

        True when the client said nothing at all: it is the test, which has ended.
        """
        typed = False
        with client.makefile("rb") as stream:
            while head := stream.read(5 if typed else 4):
                body = stream.read(int.from_bytes(head[-4:], "big") - 4)
                if typed:
                    self.questions += head[:1] in (b"Q", b"S")
                else:
                    typed = body[:4] == (196608).to_bytes(4, "big")
                upstream.sendall(head + body)
        return not typed

    def close(self) -> None:
        socket.create_connection(("127.0.0.1", self.port)).close()
        self.thread.join()
        self.listener.close()


@pytest.fixture
def proxied(
    tmp_path: Path, private_server: server.Server, database_url: str
) -> Iterator[tuple[SampleProject, Proxy]]:
    if make_url(database_url).port != private_server.port:
        pytest.skip("another server is under test")
    proxy = Proxy(private_server.port)
    url = make_url(database_url).set(port=proxy.port)
    yield SampleProject(tmp_path / "project", url.render_as_string(False), "thin"), proxy
    proxy.close()


@pytest.mark.parametrize("command", ["current", "upgrade head", "current --check-heads"])
def test_one_connection_and_two_round_trips(
    proxied: tuple[SampleProject, Proxy], command: str
) -> None:
    project, proxy = proxied
    assert project.run("stamp", "head").code == 0
    assert proxy.questions > 2
    proxy.connections = proxy.questions = 0
    assert project.run(*command.split()).code == 0
    assert proxy.connections == 1
    assert proxy.questions == 2
