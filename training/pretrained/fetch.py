"""A file over HTTPS: its size bounded, its hash checked, written whole or not at all.

A connection that breaks is taken up where it broke, as long as every attempt brings something. Certificates are the
system's (``SSL_CERT_FILE`` names others), a proxy is ``HTTPS_PROXY``.
"""

from __future__ import annotations

import http.client
import re
import ssl
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from reid_edge.core.files import sha256_of, written_whole
from reid_edge.core.progress import Phase, phase
from reid_edge.core.signals import raise_if_stopped
from reid_edge.errors import InputError, ModelError

__all__ = ["FetchError", "fetch"]

_TIMEOUT_SECONDS = 30.0
_BLOCK_BYTES = 1 << 18
_MOST_ATTEMPTS = 20


class FetchError(InputError):
    """A file that could not be fetched; the caller says what to do without it."""


def fetch(url: str, path: Path, *, sha256: str = "", most_bytes: int) -> str:
    """Write what ``url`` answers to ``path`` and return its SHA-256, which must begin with ``sha256``.

    Only HTTPS is spoken, also after a redirect. Raises FetchError when there is no connection or no such file, and
    ModelError for more than ``most_bytes`` bytes or another hash; ``path`` then stays as it was.
    """
    with written_whole(path) as beside:
        with open(beside, "wb") as file, phase(f"fetching {path.name[:40]}") as line:
            _receive(url, file, most_bytes, line)
        found = sha256_of(beside)
        if not found.startswith(sha256):
            raise ModelError(
                f"{url} answers another file than the known one (SHA-256 {found[:16]}..., not {sha256[:16]}...): "
                "it was damaged on the way, or replaced; try again, or give another file with --weights FILE"
            )
    return found


def _receive(url: str, file: IO[bytes], most_bytes: int, line: Phase) -> None:
    """Write the whole answer into ``file``, in several attempts where the connection breaks."""
    version = ""
    for _ in range(_MOST_ATTEMPTS):
        done = file.tell()
        try:
            with _opened(url, done, version) as answer:
                if not _continues(answer, done):
                    file.seek(0)
                    file.truncate()
                version = answer.headers.get("ETag", "")
                whole = _copy(answer, file, most_bytes, line, url)
        except HTTPError as error:
            error.close()
            raise FetchError(f"{url} cannot be fetched (HTTP {error.code} {_plain(error.reason)})") from None
        except URLError as error:
            raise FetchError(f"{url} cannot be fetched ({_plain(error.reason)})") from None
        except (http.client.HTTPException, OSError) as error:
            whole, reason = False, _plain(error) or type(error).__name__
        except ValueError as error:  # a length or an address, of a redirect, that is none
            raise FetchError(f"{url} cannot be fetched (a malformed answer: {_plain(error)})") from None
        else:
            reason = "the answer ended early"
        if whole:
            return
        if file.tell() <= done:
            break
    raise FetchError(f"{url} cannot be fetched ({reason} after {file.tell():,} bytes)")


def _plain(said: object) -> str:
    """What a server or the system says, as a part of one line."""
    return " ".join(str(said).split())[:200]


def _opened(url: str, start: int, version: str) -> Any:
    """The answer to a request of the bytes from ``start`` on, if the file is still the ``version`` of before."""
    if urlsplit(url).scheme != "https":
        raise FetchError(f"{url} is not fetched: only https:// is")
    request = Request(url, headers={"User-Agent": "reid-edge", "Accept-Encoding": "identity"})
    if start and version:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", version)
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPSHandler(context=ssl.create_default_context()),
        _HttpsRedirects(),
        HTTPErrorProcessor(),
        HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener.open(request, timeout=_TIMEOUT_SECONDS)


class _HttpsRedirects(HTTPRedirectHandler):
    def http_error_302(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage) -> Any:
        fp.close()  # urllib would read a redirect's body into memory, and it may have no end
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        if urlsplit(newurl).scheme != "https":
            raise FetchError(f"{req.full_url} redirects to {newurl[:200]}, which is not https: nothing was fetched")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _continues(answer: Any, start: int) -> bool:
    """Whether an answer begins at byte ``start``; else it is the whole file."""
    span = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return bool(start and answer.status == 206 and span and int(span[1]) == start)


def _copy(answer: Any, file: IO[bytes], most_bytes: int, line: Phase, url: str) -> bool:
    """Append an answer to ``file``: whether it came to its announced end."""
    announced = int(answer.headers.get("Content-Length") or -1)
    received, started = 0, file.tell()
    if started + announced > most_bytes:
        _refuse_size(url, most_bytes)
    while block := answer.read(_BLOCK_BYTES):
        raise_if_stopped()
        if file.tell() + len(block) > most_bytes:
            _refuse_size(url, most_bytes)
        file.write(block)
        received += len(block)
        line.advance(len(block) / 1e6, f"{file.tell() / 1e6:.1f} MB")
    return announced < 0 or received >= announced


def _refuse_size(url: str, most_bytes: int) -> None:
    raise ModelError(f"{url} answers more than {most_bytes:,} bytes, above the published size: nothing was kept")
