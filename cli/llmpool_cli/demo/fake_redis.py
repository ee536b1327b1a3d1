"""Fakeredis behind a TCP port of our own: the demo's Redis for a machine without redis-server.

Run as `python -m llmpool_cli.demo.fake_redis`; prints `{"port": N}` when it listens and ends at end of file on stdin.

Fakeredis 2.40's own TcpFakeServer closes the connection after every error reply (NOSCRIPT among them) and reads line by
line with a 10 ms poll (a 1 MB body takes over 5 s), and BLMOVE answers nil at once where the list is missing, so a
worker waiting for jobs would spin. The connection and the command below put that right; commands, data and Lua are
fakeredis' own. What remains different from Redis is in `redis_provider`.
"""

import json
import socket
import sys
import threading
from queue import Queue
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

from fakeredis import FakeRedisConnection, FakeServer
from fakeredis._clients._tcp_server import encode_reply
from fakeredis._command_args_parsing import Timeout
from fakeredis._commands import command
from fakeredis._socket import FakeSocket

READ_BYTES = 65536
CLOSED = object()


class Server(ThreadingTCPServer):
    """One fakeredis data set for all its connections, a thread for each direction of each."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.data = FakeServer(server_type="redis", version=(7, 0))


class Connection(BaseRequestHandler):
    """Feeds a client's bytes to fakeredis; a second thread writes its replies and pushes in their order."""

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        info = {"laddr": self.request.getsockname(), "addr": self.client_address, "fd": self.request.fileno()}
        client = FakeRedisConnection(server=self.server.data, protocol=2, client_info=info)  # type: ignore[attr-defined]
        fake = client.get_socket()
        replies: Queue[Any] = fake.responses  # type: ignore[assignment]  # None only once it is disconnected
        writer = threading.Thread(target=write_replies, args=(self.request, fake, replies), daemon=True)
        writer.start()
        try:
            while data := self.request.recv(READ_BYTES):
                fake.sendall(data)  # runs each whole command in it; a blocking one blocks this thread alone
        except ConnectionError:
            pass  # the client is gone, and there is nobody to tell
        finally:
            replies.put(CLOSED)
            writer.join()
            client.disconnect()  # type: ignore[no-untyped-call]


def write_replies(to: socket.socket, fake: Any, replies: "Queue[Any]") -> None:
    """Writes replies as they come until CLOSED, in the protocol that HELLO agreed on (RESP2 before it)."""
    while (reply := replies.get()) is not CLOSED:
        raw = encode_reply(reply, fake._client_info.protocol_version)  # noqa: SLF001 (fakeredis' server does the same)
        if isinstance(reply, Exception):
            # A Lua error's text has several lines; as Redis does, they become one, or the client loses the protocol.
            raw = raw.rstrip(b"\r\n").replace(b"\r", b" ").replace(b"\n", b" ") + b"\r\n"
        try:
            to.sendall(raw)
        except OSError:
            return


def repair_blmove() -> None:
    """Replaces fakeredis' BLMOVE by one that waits where the list is missing, and answers what it moved."""

    def blmove(self: Any, source: bytes, to: bytes, take: bytes, put: bytes, timeout: bytes) -> Any:
        ends = (take.lower() == b"left", put.lower() == b"left")

        def attempt(first_pass: bool) -> bytes | None:
            moved = self._blmovem_pass(source, to, *ends, False, 1, True, first_pass)
            return moved[0] if moved else None

        return self._blocking(Timeout.decode(timeout), attempt)

    command(name="BLMOVE", fixed=(bytes,) * 5)(blmove)
    FakeSocket.blmove = blmove  # type: ignore[method-assign]


def main() -> None:
    repair_blmove()
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)  # noqa: T201 (the parent reads it)
    sys.stdin.buffer.read()  # until the parent closes it, or is gone
    server.shutdown()


if __name__ == "__main__":
    main()
