"""Channels to the cluster's own services: load spread over replicas, and word of who is there."""

import asyncio
import json

import grpc

from pointsman.chassis.grpc_server import BODY_LIMIT_BYTES, KEEPALIVE_OPTIONS, channel_options
from pointsman.chassis.mesh import Mesh

Option = tuple[str, str | int]


def open_channel(
    target: str, service: str, mesh: Mesh, *, body_limit_bytes: int, repeatable: bool = False
) -> grpc.aio.Channel:
    """Returns a channel over all healthy addresses of a target, encrypted if the mesh is.

    Args:
        target: `host:port`, or any gRPC target such as `dns:///scorer:50051`.
        service: Full name, such as `pointsman.scorer.v1.ScorerService`: the one that is called, and
            whose health at an address decides whether calls go there.
        mesh: What to show; its `call_metadata` is the callers' to send.
        body_limit_bytes: The largest body a message may carry.
        repeatable: True if calls may be made twice: one that a dying replica has swallowed is made
            again elsewhere.
    """
    options: list[Option] = [
        *channel_options(body_limit_bytes),
        *KEEPALIVE_OPTIONS,
        *_server_name(mesh.server_name),
        ("grpc.service_config", json.dumps(_service_config(service, repeatable))),
        # What DNS may say about load balancing is not for others to decide.
        ("grpc.service_config_disable_resolution", 1),
        # A connection that ends is the moment to learn of new replicas. gRPC asks DNS at most twice
        # a minute by default: too seldom for a restart at a new address.
        ("grpc.dns_min_time_between_resolutions_ms", 2000),
        # gRPC's guess at the network's capacity lets a stream that nobody reads fill 16 MiB here;
        # 64 KiB in flight are enough for 60 MB/s at a millisecond.
        ("grpc.http2.bdp_probe", 0),
        # Proxies in the environment are for the way out to providers.
        ("grpc.enable_http_proxy", 0),
    ]
    credentials = mesh.channel_credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, credentials, options)


def blocking_channel(target: str, mesh: Mesh, *, server_name: str | None = None) -> grpc.Channel:
    """Returns a channel for a caller without an event loop, encrypted if the mesh is.

    Args:
        target: `host:port`, or any gRPC target.
        mesh: What to show; its `call_metadata` is the callers' to send.
        server_name: The name in the server's certificate, where neither the mesh's nor the host.
    """
    options: list[Option] = [
        *channel_options(BODY_LIMIT_BYTES),
        *_server_name(mesh.server_name or server_name),
        ("grpc.enable_http_proxy", 0),
    ]
    credentials = mesh.channel_credentials()
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


def _server_name(name: str | None) -> list[Option]:
    return [("grpc.ssl_target_name_override", name)] if name else []


def _service_config(service: str, repeatable: bool) -> dict[str, object]:
    config: dict[str, object] = {
        # The default, pick_first, would send everything to one replica.
        "loadBalancingConfig": [{"round_robin": {}}],
        # A replica that drains says so before it hangs up, and one that still loads before it can
        # answer: without watching its health, calls would go there and be lost or refused.
        "healthCheckConfig": {"serviceName": service},
    }
    if repeatable:
        retry = {
            "maxAttempts": 3,
            "initialBackoff": "0.01s",
            "maxBackoff": "0.1s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config["methodConfig"] = [{"name": [{"service": service}], "retryPolicy": retry}]
    return config


class Presence:
    """Knows whether anybody is at the other end of a channel.

    All who wait share one watch: gRPC keeps a watch until the state changes, whoever asked for it.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._connecting: asyncio.Task[None] | None = None

    async def within(self, seconds: float) -> bool:
        """Returns True once a server is connected, or False after so many seconds without one."""
        if self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return True
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
        done, _ = await asyncio.wait({self._connecting}, timeout=seconds)
        return bool(done)

    async def _connect(self) -> None:
        over = {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.SHUTDOWN}
        while (state := self._channel.get_state(try_to_connect=True)) not in over:
            await self._channel.wait_for_state_change(state)
