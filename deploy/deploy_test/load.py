"""Requests to the gateway: one, and many at once for as long as something else goes on."""

import http.client
import itertools
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from deploy.deploy_test.shell import Failed

_TIMEOUT_SECONDS = 60.0
_CLIENTS = 8


def get_json(url: str) -> Any:
    """Returns the JSON at the address.

    Raises:
        OSError: Nothing answers, or not with 200.
    """
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
        return json.load(response)


def ask(base_url: str, prompt: str, *, stream: bool, key: str | None = None) -> str:
    """Returns the model that answered, as the answer's headers name it.

    Args:
        base_url: Of the gateway.
        prompt: What the user says.
        stream: Whether the answer is asked for in parts.
        key: An API key; None sends none.

    Raises:
        Failed: The status is not 200, or a stream does not end with `[DONE]`.
    """
    body = {
        "model": "router-mf-0.5",
        "messages": [{"role": "user", "content": prompt}],
        "stream": stream,
    }
    request = urllib.request.Request(
        f"{base_url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            text = response.read().decode()
            headers = response.headers
    except urllib.error.HTTPError as error:
        raise Failed(f"status {error.code}: {error.read().decode()[:200]}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"no answer: {error}") from error
    if stream and not text.rstrip().endswith("data: [DONE]"):
        raise Failed(f"the stream broke off: {text[-200:]}")
    if not stream and not json.loads(text)["choices"]:
        raise Failed(f"an answer without a choice: {text[:200]}")
    return str(headers["x-pointsman-fallback"] or headers["x-pointsman-model"])


@dataclass(slots=True)
class Load:
    """What became of the requests.

    Attributes:
        answers: How often each model answered, or the fallback's reason instead of it.
        failures: What was said of every request that failed.
        slowest_seconds: The longest that an answer took.
    """

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0

    def told(self) -> str:
        """Returns it in words.

        Raises:
            Failed: A request failed.
        """
        requests = self.answers.total() + len(self.failures)
        if self.failures:
            raise Failed(f"{len(self.failures)} of {requests} failed; {self.failures[0]}")
        models = ", ".join(f"{count} {name}" for name, count in sorted(self.answers.items()))
        return f"{requests} requests, none failed ({models}), slowest {self.slowest_seconds:.1f} s"


@contextmanager
def under_load(base_url: str, *, settle_requests: int = 50) -> Iterator[Load]:
    """Keeps clients asking while the block runs, every fourth time for a stream.

    Before the block and after it so many requests are waited for, so that it really is in between.
    """
    load = Load()
    stop = threading.Event()
    numbers = itertools.count()
    lock = threading.Lock()

    def client() -> None:
        while not stop.is_set():
            number = next(numbers)
            started = time.monotonic()
            try:
                answer = ask(base_url, f"What is {number} times {number}?", stream=number % 4 == 0)
                failure = None
            except Failed as error:
                answer, failure = "", str(error)
            with lock:
                load.slowest_seconds = max(load.slowest_seconds, time.monotonic() - started)
                if failure is None:
                    load.answers[answer] += 1
                else:
                    load.failures.append(failure)

    def settle() -> None:
        reached = load.answers.total() + len(load.failures) + settle_requests
        while load.answers.total() + len(load.failures) < reached:
            time.sleep(0.05)

    clients = [threading.Thread(target=client, daemon=True) for _ in range(_CLIENTS)]
    for thread in clients:
        thread.start()
    try:
        settle()
        yield load
        settle()
    finally:
        stop.set()
        for thread in clients:
            thread.join()
