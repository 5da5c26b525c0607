"""A small HTTP server on loopback that answers as a test tells it; for the adapters of OSV, PyPI and indexes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, bytes]


@contextmanager
def serving(answer: Callable[[str, Any], Answer], kind: str = "application/octet-stream") -> Iterator[str]:
    """The address of a server that calls *answer* with the path and the JSON body (None for GET)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(answer(self.path, None))

        do_HEAD = do_GET

        def do_POST(self) -> None:
            self._send(answer(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def _send(self, given: Answer) -> None:
            status, body = given
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def nobody() -> Iterator[str]:
    """An address at which nobody answers: its port is taken, so that nobody else gets it, and not listened on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
