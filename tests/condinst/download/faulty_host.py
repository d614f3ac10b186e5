"""A server of this machine that breaks, lies and forgets as a test asks."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Host(ThreadingHTTPServer):
    """Serves ``files`` inside a ``with``; what goes wrong is set by a test.

    Attributes:
        cut: bytes after which a connection ends; None: never.
        ranges: whether Range is understood.
        shift: added to the first byte of Content-Range.
        corrupted: answers with one wrong byte before the first good one.
        drip: seconds between bytes; 0: all at once.
        failures: answers of 503 before the first good one.
        version: sent as ETag; empty: none.
        asked: the Range headers that came, in order.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {"/file": CONTENT}
        self.cut: int | None = None
        self.ranges = True
        self.shift = 0
        self.corrupted = 0
        self.drip = 0.0
        self.failures = 0
        self.version = ""
        self.asked: list[str | None] = []

    def __enter__(self) -> Host:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client had enough
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        host = self.server
        host.asked.append(self.headers["Range"])
        if host.failures:
            host.failures -= 1
            self.send_error(503)
            return
        content = host.files.get(self.path.partition("?")[0])
        if content is None:
            self.send_error(404)
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        start, end = 0, len(content)
        if self.headers["Range"] and host.ranges:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            start, end = int(first), int(last) + 1
            self.send_response(206)
            span = f"bytes {start + host.shift}-{end - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        else:
            self.send_response(200)
        if host.version:
            self.send_header("ETag", host.version)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        body = content[start:end][: host.cut]
        if host.corrupted:
            host.corrupted -= 1
            body = body[:-1] + bytes([body[-1] ^ 1])
        with contextlib.suppress(ConnectionError):  # the client may have had enough
            if not host.drip:
                self.wfile.write(body)
            for value in body if host.drip else b"":
                self.wfile.write(bytes([value]))
                time.sleep(host.drip)

    def log_message(self, format: str, *args: object) -> None:
        pass
