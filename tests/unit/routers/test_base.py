"""Routers that were written for RouteLLM."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event, get_ident

from pointsman.routers.base import OnePromptAtATime


class Unguarded:
    """Keeps what it works on in itself, as a tokenizer does, and is slow."""

    def __init__(self) -> None:
        self.owner = 0
        self.disturbed = False
        self._never = Event()

    def calculate_strong_win_rate(self, prompt: str) -> float:
        """Returns half; remembers whether another thread came in between."""
        self.owner = get_ident()
        self._never.wait(0.001)  # lets the others run
        self.disturbed = self.disturbed or self.owner != get_ident()
        return 0.5


def test_a_router_of_routellms_is_never_called_by_two_threads_at_once() -> None:
    """RouteLLM never does, so its routers need not stand it; the scorer has several threads."""
    theirs = Unguarded()
    router = OnePromptAtATime(theirs)
    with ThreadPoolExecutor(4) as pool:
        rates = [rate.tolist() for rate in pool.map(router.strong_win_rates, [["a", "b"]] * 20)]
    assert rates == [[0.5, 0.5]] * 20
    assert not theirs.disturbed
