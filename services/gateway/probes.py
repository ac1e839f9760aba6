"""`/healthz`: the process lives. `/readyz`: it can answer, and is not on its way out."""

import msgspec
from aiohttp import web

from services.gateway.directory import Directory
from services.gateway.openai_errors import json_response


class Probes:
    """Liveness and readiness; liveness depends on nothing outside."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.draining = False
        """True from the moment the gateway was told to stop."""

    async def healthz(self, request: web.Request) -> web.StreamResponse:
        """Says that the process answers."""
        return json_response(200, msgspec.json.encode({"status": "ok"}))

    async def readyz(self, request: web.Request) -> web.StreamResponse:
        """Says whether requests can be answered, and if not, why."""
        reason = "draining" if self.draining else self._directory.not_ready_reason
        body = msgspec.json.encode({"ready": not reason, "reason": reason})
        return json_response(503 if reason else 200, body)
