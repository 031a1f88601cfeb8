"""An HTTPS server on this machine that answers as told: whole, cut off, too long, or with a redirect."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Site:
    """``answers`` by path; ``requests`` are the paths and Range headers that were asked for."""

    url: str
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def serve(self, path: str, content: bytes, *, cut_at: int | None = None, ranges: bool = True) -> str:
        """Answer ``path`` with ``content``; every answer breaks off after ``cut_at`` bytes. Return its address."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            span = request.headers.get("Range") if ranges else None
            start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
            body = content[start:]
            request.send_response(206 if span else 200)
            if span:
                request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            request.send_header("Content-Length", str(len(body)))
            request.send_header("ETag", '"1"')
            request.end_headers()
            request.wfile.write(body[:cut_at])

        self.answers[path] = answer
        return f"{self.url}{path}"

    def redirect(self, path: str, to: str) -> str:
        """Answer ``path`` with a redirect."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(302)
            request.send_header("Location", to)
            request.send_header("Content-Length", "0")
            request.end_headers()

        self.answers[path] = answer
        return f"{self.url}{path}"


def certificate(folder: Path) -> Path:
    """A certificate for localhost and its key, in one file, as openssl makes them."""
    made = folder / "localhost.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    keys = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-keyout", made, "-out", made]
    subprocess.run(["openssl", "req", "-x509", "-days", "2", *subject, *keys], check=True, capture_output=True)
    return made


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up, as tests ask them to."""


@contextmanager
def https_site(certificate: Path) -> Iterator[Site]:
    """A server on a free port of localhost."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append((self.path, self.headers.get("Range")))
            if self.path in site.answers:
                site.answers[self.path](self)
            else:
                self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = _Server(("localhost", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    site = Site(f"https://localhost:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
