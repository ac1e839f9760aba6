"""Public originals → the data folder: downloaded once, checked, whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import urlsplit

from pointsman.errors import ConfigError, PointsmanError
from pointsman.evaluation.originals import Original
from pointsman.routing import quote

Outcome = Literal["there", "fetched", "replaced"]

_PAUSES_SECONDS = (1.0, 2.0)
"""Between three tries."""
_TIMEOUT_SECONDS = 30.0
"""For a connection, and for each piece of an answer."""
_BLOCK_BYTES = 1 << 16


class DownloadFailed(PointsmanError):
    """A file could not be had: no network, a refusal, or not the bytes that were published."""


def check_mirror(url: str) -> None:
    """Returns if the URL may stand for the publisher's.

    Raises:
        ConfigError: It is not http or https, or names no host.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"--mirror {quote(url)} is not an address such as https://mirror.example.com/files; it "
            "stands for the publisher's scheme and host, and what follows them is kept"
        )


def fetch(
    original: Original,
    data: Path,
    *,
    mirror: str | None,
    progress: Callable[[int], object],
    sleep: Callable[[float], object],
) -> Outcome:
    """Makes sure that the data folder has the file, and returns what that took.

    Args:
        original: Skipped if it is there with the right checksum; anything else is replaced.
        data: The data folder; made if it is not there.
        mirror: Stands for the publisher's scheme and host; None for the publisher.
        progress: Told the number of bytes of every piece, and a negative one when a try is undone.
        sleep: Waits so many seconds between tries.

    Raises:
        DownloadFailed: Three tries failed, or the bytes are not those that were published.
        ConfigError: The data folder cannot be read or written to.
    """
    if original.is_in(data):
        progress(original.size_bytes)
        return "there"
    outcome: Outcome = "replaced" if original.was_ever_in(data) else "fetched"
    try:
        data.mkdir(parents=True, exist_ok=True)
        # in the data folder, which has the space: /tmp often lies in memory
        with tempfile.TemporaryFile(dir=data) as download:
            _download(original, original.address(mirror), download, progress, sleep)
            original.place(download, data)
    except OSError as error:
        raise ConfigError(
            f"cannot write {data / original.path}: {error.strerror or error}; name another folder "
            "with --data or POINTSMAN_DATA"
        ) from error
    return outcome


def _download(
    original: Original,
    url: str,
    download: BinaryIO,
    progress: Callable[[int], object],
    sleep: Callable[[float], object],
) -> None:
    digest = None
    for pause_seconds in (*_PAUSES_SECONDS, None):
        try:
            digest = _read(url, download, original.size_bytes, progress)
            break
        except (_NetworkError, http.client.HTTPException) as error:
            progress(-download.tell())
            if pause_seconds is None or not _may_pass(error):
                raise DownloadFailed(
                    f"cannot fetch {url}: {_reason(error)}; {_remedy(original)}"
                ) from error
        sleep(pause_seconds)
    if digest != original.sha256:
        progress(-download.tell())
        raise DownloadFailed(
            f"{url} is not the file that was published: SHA-256 {digest}, not {original.sha256}; "
            f"nothing was kept; {_remedy(original)}"
        )


class _NetworkError(Exception):
    """Wraps what the network raises, so that a full disk is not taken for it."""


def _read(url: str, download: BinaryIO, size_bytes: int, progress: Callable[[int], object]) -> str:
    """Writes the body and returns its SHA-256; reads no more than one block too many."""
    download.seek(0)
    download.truncate()
    found = hashlib.sha256()
    try:
        answer = _opener().open(url, timeout=_TIMEOUT_SECONDS)
    except (OSError, ValueError) as error:  # URLError, HTTPError, timeouts; ValueError: a bad URL
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise _NetworkError from error
    with answer:
        while download.tell() <= size_bytes:
            try:
                block = answer.read(_BLOCK_BYTES)
            except OSError as error:
                raise _NetworkError from error
            if not block:
                break
            found.update(block)
            download.write(block)
            progress(len(block))
    promised = answer.headers.get("Content-Length", "")
    if download.tell() < (int(promised) if promised.isdecimal() else size_bytes):
        raise http.client.IncompleteRead(b"")
    return found.hexdigest()


def _opener() -> urllib.request.OpenerDirector:
    """Returns an opener of http and https alone: no redirection leads to a file or to FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "pointsman"), ("Accept", "*/*")]
    return opener


def _may_pass(error: Exception) -> bool:
    cause = error.__cause__
    if isinstance(cause, urllib.error.HTTPError):
        return cause.code in {408, 425, 429} or cause.code >= 500
    if isinstance(cause, ValueError):
        return False
    reason = getattr(cause, "reason", None)
    return not isinstance(reason, ssl.SSLCertVerificationError)


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, urllib.error.HTTPError):
        return f"HTTP {cause.code} {cause.reason}".strip()
    if isinstance(cause, http.client.IncompleteRead):
        return "the answer broke off"
    reason = getattr(cause, "reason", cause)
    told = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return " ".join(str(told).split())


def _remedy(original: Original) -> str:
    return (
        f"give another source with --mirror, or put the file into the data folder as "
        f"{original.path} by hand"
    )
