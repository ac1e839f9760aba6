"""What the demo provider lets its operator set."""

from collections.abc import Mapping

from pointsman.chassis.config import Port, Seconds, ServerSettings, load_settings

PORT_VARIABLE = "POINTSMAN_DEMO_PORT"


class DemoSettings(ServerSettings, frozen=True, kw_only=True):
    """The demo provider's settings."""

    port: Port = 6061
    """HTTP port; 0 takes any free one."""
    chunk_seconds: Seconds = 0.0
    """Pause between two chunks of a stream, as a real model makes one."""


def load(environ: Mapping[str, str]) -> DemoSettings:
    """Returns the settings that the environment gives.

    Raises:
        ConfigError: Names variable and value.
    """
    variables = {
        PORT_VARIABLE: "port",
        "POINTSMAN_DEMO_HOST": "host",
        "POINTSMAN_DEMO_CHUNK_SECONDS": "chunk_seconds",
        "POINTSMAN_LOG_LEVEL": "log_level",
    }
    return load_settings(DemoSettings, None, environ, variables)
