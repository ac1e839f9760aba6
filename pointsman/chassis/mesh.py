"""Who may call whom inside the cluster: a shared token, mutual TLS, both, or this machine only.

The scorer and the upstream let in whoever knows the token and whose certificate the CA has signed;
the gateway shows both. Health checks need no token, so that probes get by without a secret; with
TLS they too need a certificate. A server that anybody could call does not start.
"""

import hmac
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

import grpc
from grpc_health.v1 import health_pb2

from pointsman.chassis.config import Secret, Settings, load_settings
from pointsman.chassis.ports import is_loopback
from pointsman.errors import ConfigError

logger = logging.getLogger(__name__)

TOKEN_KEY = "x-pointsman-mesh-token"
"""The call metadata that carries the token; not `authorization`, which proxies take as theirs."""
TOKEN_VARIABLE = "POINTSMAN_MESH_TOKEN"
TOKEN_FILE_VARIABLE = "POINTSMAN_MESH_TOKEN_FILE"
INSECURE_VARIABLE = "POINTSMAN_INSECURE"
_TLS_VARIABLES = {
    "POINTSMAN_TLS_CERTIFICATE": "mesh.tls_certificate",
    "POINTSMAN_TLS_KEY": "mesh.tls_key",
    "POINTSMAN_TLS_CA": "mesh.tls_ca",
}
MESH_VARIABLES = {
    TOKEN_FILE_VARIABLE: "mesh.token_file",
    **_TLS_VARIABLES,
    "POINTSMAN_TLS_SERVER_NAME": "mesh.tls_server_name",
    INSECURE_VARIABLE: "mesh.insecure",
}
MESH_SECRETS = {TOKEN_VARIABLE: "mesh.token"}

REFUSAL = (
    f"the mesh token is missing or wrong; set {TOKEN_VARIABLE} or {TOKEN_FILE_VARIABLE} to the "
    "token that this service has"
)
_SHORTEST_TOKEN = 32
_TOKEN = re.compile(r"[!-~]+")
_OPEN = frozenset(
    f"/{health_pb2.DESCRIPTOR.services_by_name['Health'].full_name}/{method}"
    for method in ("Check", "Watch")
)


class MeshSettings(Settings, frozen=True, kw_only=True):
    """How the services of one cluster know each other; the same for all of them."""

    token: Secret | None = None
    """The token, from the environment only."""
    token_file: str | None = None
    """File with the token, 32 or more characters. Several, with space between them, are all let
    in and the first is shown: add the new one behind, restart all, put it first, restart all."""
    tls_certificate: str | None = None
    """PEM file: this service's certificate and what is between it and the CA. Read at the start;
    a renewed one needs a restart."""
    tls_key: str | None = None
    """PEM file: the certificate's key."""
    tls_ca: str | None = None
    """PEM file: whoever has a certificate of this authority belongs to the cluster."""
    tls_server_name: str | None = None
    """The name in the scorer's and the upstream's certificates, if it is not the host of their
    address; a health check asks for `localhost` without it."""
    insecure: bool = False
    """True lets a service listen beyond this machine without either: whoever reaches its port may
    call it."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate, key and authority, as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    ca: bytes


@dataclass(frozen=True, slots=True)
class Mesh:
    """What a service shows when it calls and asks for when it is called; `repr` hides secrets."""

    tokens: tuple[Secret, ...] = ()
    """The first is shown, all are let in; empty if none is asked for."""
    tls: Tls | None = None
    server_name: str | None = None
    insecure: bool = False

    @property
    def call_metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return tuple((TOKEN_KEY, token.reveal()) for token in self.tokens[:1])

    def require_closed(self, host: str) -> None:
        """Returns if a server on `host` lets in only whom it should, or was told not to mind.

        Raises:
            ConfigError: Anybody could call it.
        """
        if is_loopback(host) or self.tokens or self.tls:
            return
        if not self.insecure:
            raise ConfigError(
                f"listening on {host}, anybody who reaches it could call: set {TOKEN_VARIABLE} (or "
                f"{TOKEN_FILE_VARIABLE}), or {', '.join(_TLS_VARIABLES)}, or listen on 127.0.0.1; "
                f"{INSECURE_VARIABLE}=true lets everybody in"
            )
        logger.warning("insecure: whoever reaches this port may call", extra={"host": host})

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """Returns what makes a server ask for certificates; None without TLS."""
        if self.tls is None:
            return None
        return grpc.ssl_server_credentials(
            [(self.tls.key, self.tls.certificate)],
            root_certificates=self.tls.ca,
            require_client_auth=True,
        )

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """Returns what makes a channel show its certificate; None without TLS."""
        if self.tls is None:
            return None
        return grpc.ssl_channel_credentials(self.tls.ca, self.tls.key, self.tls.certificate)


def load_mesh(settings: MeshSettings) -> Mesh:
    """Returns the credentials that the settings name, read and checked.

    Raises:
        ConfigError: A token is too short, a file cannot be read, or the TLS files do not fit.
    """
    return Mesh(_tokens(settings), _tls(settings), settings.tls_server_name, settings.insecure)


def mesh_of(path: str | None, environ: Mapping[str, str]) -> Mesh:
    """Returns the credentials that a service's file and environment name, for a caller beside it.

    Raises:
        ConfigError: As `load_settings` and `load_mesh` do.
    """
    beside = load_settings(_Beside, path, environ, MESH_VARIABLES, MESH_SECRETS)
    return load_mesh(beside.mesh)


class _Beside(Settings, frozen=True, kw_only=True, forbid_unknown_fields=False):
    mesh: MeshSettings = MeshSettings()


def _tokens(settings: MeshSettings) -> tuple[Secret, ...]:
    if settings.token and settings.token_file:
        raise ConfigError(f"{TOKEN_VARIABLE} and {TOKEN_FILE_VARIABLE} are both set; unset one")
    if settings.token:
        source, text = TOKEN_VARIABLE, settings.token.reveal()
    elif settings.token_file:
        source = f"{TOKEN_FILE_VARIABLE}={settings.token_file}"
        text = _read(source, settings.token_file).decode(errors="replace")
    else:
        return ()
    tokens = text.split()
    if not all(_TOKEN.fullmatch(token) for token in tokens):
        raise ConfigError(f"{source}: a token is printable ASCII, such as openssl rand -hex 32 has")
    shortest = min(map(len, tokens), default=0)
    if shortest < _SHORTEST_TOKEN:
        raise ConfigError(
            f"{source}: a token of {shortest} characters can be guessed; {_SHORTEST_TOKEN} is the "
            "least, openssl rand -hex 32 makes one"
        )
    return tuple(map(Secret, tokens))


def _tls(settings: MeshSettings) -> Tls | None:
    paths = (settings.tls_certificate, settings.tls_key, settings.tls_ca)
    missing = [name for name, path in zip(_TLS_VARIABLES, paths, strict=True) if not path]
    if len(missing) == len(paths):
        return None
    if missing:
        raise ConfigError(f"TLS needs three files; set {' and '.join(missing)} too")
    certificate, key, ca = cast(tuple[str, str, str], paths)
    named = zip(_TLS_VARIABLES, (certificate, key, ca), strict=True)
    read = [_read(f"{variable}={path}", path) for variable, path in named]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:  # gRPC itself would only say that the port is taken
        context.load_cert_chain(certificate, key, password=_no_password)
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:  # ssl's own error is an OSError
        reason = error.args[-1] if error.args else error
        raise ConfigError(
            f"{certificate}, {key} and {ca} are no certificate, its unlocked key and an authority, "
            f"all PEM: {reason}"
        ) from error
    return Tls(*read)


def _no_password() -> NoReturn:
    raise ValueError("the key has a password")


def _read(source: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {error.strerror}") from error


class TokenRequired(grpc.aio.ServerInterceptor):
    """Lets in calls that show one of the tokens, and health checks; all others: UNAUTHENTICATED.

    It must stand before everything that remembers a handler by its method.
    """

    def __init__(self, tokens: Sequence[Secret]) -> None:
        self._tokens = [token.reveal().encode() for token in tokens]

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Returns the method's handler, or one that refuses."""
        details = handler_call_details
        if details.method in _OPEN or self._shown(details.invocation_metadata):
            return await continuation(details)
        return _REFUSING

    def _shown(self, metadata: Any) -> bool:
        values = [value for key, value in metadata or () if key == TOKEN_KEY]
        # Every pair is compared to the end, so that the time says nothing about the token.
        matches = [
            hmac.compare_digest(value.encode(), token) for value in values for token in self._tokens
        ]
        return any(matches)


async def _refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    logger.warning("call without the mesh token refused", extra={"peer": context.peer()})
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, REFUSAL)


# Of the shape that fits every method, and answers before it has read a message.
_REFUSING: Any = grpc.stream_stream_rpc_method_handler(_refuse)
