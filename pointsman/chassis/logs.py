"""JSON lines on standard output: a fixed event phrase and fields, never a prompt, answer or key."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from pointsman.chassis.config import LogLevel

_PLAIN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_encode = msgspec.json.Encoder(enc_hook=str).encode


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time (RFC 3339, UTC), level, service, logger, event and the fields."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as one line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update((k, v) for k, v in vars(record).items() if k not in _PLAIN_ATTRIBUTES)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            return _encode(line).decode()
        except UnicodeEncodeError:  # half an emoji, somewhere
            return json.dumps(line, default=str)


def configure_logging(service: str, level: LogLevel, stream: TextIO = sys.stdout) -> None:
    """Sends every logger's records of `level` and above to `stream` as JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # What the request's own line already says, or nobody asked. aiohttp quotes malformed requests,
    # keys and all; they are the client's mistake and answered with 400.
    for noisy in ("aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
