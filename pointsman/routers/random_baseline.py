"""The control every other router must beat: win rates that know nothing of the prompt."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from pointsman.routers.base import Router

_RANDOM_BITS = 24
"""A float32 in [0, 1) holds 24 bits exactly, so no value rounds up to 1."""


class RandomRouter(Router):
    """Uniform win rates in [0, 1).

    With a seed the win rate is a pure function of (seed, prompt), so all replicas of a scorer
    agree and a cache changes nothing. Without one every call draws anew, as RouteLLM's does.
    """

    def __init__(self, seed: int | None = None) -> None:
        """Keep the seed; ``None`` draws from the operating system's randomness."""
        self._seed = seed
        self.revision = "random" if seed is None else f"random-seed-{seed}"

    def strong_win_rates(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n] in [0, 1), uniform over prompts."""
        bits = [self._bits(prompt) for prompt in prompts]
        return np.asarray(bits, dtype=np.float32) / np.float32(1 << _RANDOM_BITS)

    def _bits(self, prompt: str) -> int:
        if self._seed is None:
            return secrets.randbits(_RANDOM_BITS)
        digest = blake2b(
            prompt.encode("utf-8", errors="surrogatepass"),
            key=str(self._seed).encode("ascii")[:64],
            digest_size=8,
            person=b"pointsman-random",
        ).digest()
        return int.from_bytes(digest, "big") >> (64 - _RANDOM_BITS)
