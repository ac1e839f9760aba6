"""The proxy on the way to a URL, as the environment names it."""

import pytest

from pointsman.chassis.proxies import proxy_for

SECURE = {"HTTPS_PROXY": "http://proxy:3128"}
PLAIN = {"HTTP_PROXY": "http://proxy:3128"}
API = "https://api.openai.com/v1/chat/completions"


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, API, None),
        (SECURE, API, "http://proxy:3128"),
        (SECURE, "http://gpu:8000/v1", None),
        (PLAIN, "http://gpu:8000/v1", "http://proxy:3128"),
        ({**SECURE, "https_proxy": "http://lower:1"}, API, "http://lower:1"),
        ({**SECURE, "https_proxy": ""}, API, "http://proxy:3128"),
        ({**SECURE, "NO_PROXY": "other,.openai.com"}, API, None),
        ({**SECURE, "NO_PROXY": "other,.openai.com", "no_proxy": "gpu"}, API, "http://proxy:3128"),
        ({**SECURE, "NO_PROXY": "*"}, API, None),
    ],
)
def test_proxies_are_the_ones_of_the_environment(
    environ: dict[str, str], url: str, proxy: str | None
) -> None:
    """By scheme; lower case comes first, as every other client has it, unless it is empty."""
    assert proxy_for(url, environ) == proxy


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_this_machine_is_never_behind_a_proxy(host: str) -> None:
    """No proxy could reach it."""
    assert proxy_for(f"http://{host}:6061/v1", PLAIN) is None
