"""Which routers can be measured, and in what environment."""

import msgspec

from bench.cluster import service_environ, unready_routers

LISTING = msgspec.json.encode(
    {
        "object": "list",
        "data": [
            {"id": "weak", "object": "model"},
            {"id": "router-random-0.5", "ready": True},
            {"id": "router-mf-0.1159", "ready": False, "not_ready_reason": "no bundle"},
        ],
    }
)


def test_a_router_that_is_not_ready_is_named_with_its_reason() -> None:
    """Whatever threshold the listing proposes for it."""
    assert unready_routers(LISTING, {"random", "mf"}) == {"mf": "no bundle"}


def test_a_router_that_is_not_listed_is_not_ready() -> None:
    """The scorer may be configured without it."""
    assert unready_routers(LISTING, {"bert"}) == {"bert": "the gateway does not list it"}


def test_services_get_defaults_and_free_ports() -> None:
    """Neither the operator's settings nor a proxy are measured."""
    environ = service_environ(
        {"PATH": "/bin", "POINTSMAN_MODELS": "mine.yaml", "HTTP_PROXY": "http://proxy"}, 0.01
    )
    assert environ["PATH"] == "/bin"
    assert "POINTSMAN_MODELS" not in environ
    assert "HTTP_PROXY" not in environ
    assert environ["POINTSMAN_LOG_LEVEL"] == "INFO"
    ports = {name: value for name, value in environ.items() if name.endswith("_PORT")}
    assert set(ports.values()) == {"0"}
    assert len(ports) == 7
