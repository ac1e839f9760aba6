"""A provider that fails in every way now and then."""

from bench.fault_wall.faults import EMOJI, FAULTS
from bench.fault_wall.provider import Exchange, FaultyProvider

CHANCE = 0.01
"""Of each fault."""
MIXED = "mixed"
"""The fault that is all of these, each with its chance."""
_PACED_SHARE = 0.1
_TOKEN_SECONDS = 0.002
"""Of streams that break, and of some others: breaking after the first token takes one."""
# Without `leaves-quietly`: a call on a connection whose end is just arriving is an attempt that no
# provider sees, and the sums would not add up.
KINDS = (
    "throttled",
    "throttled:1",
    "failing:500",
    "down",
    "reset",
    "hangs-up",
    "mute",
    "late:20",
    "late-after-role:20",
    "cut",
    "cut-by-reset",
    "half-closed",
    "stalls:30",
    "garbled",
    "garbled-first",
    "no-done",
    "no-done:open",
    "cut-after-done",
    "unfinished",
    "error-body:0",
    "error-body:5",
    "gzip",
    "split-utf8",
    "huge:1",
    "too-long",
    "filtered",
)


async def mixed(exchange: Exchange, _: str) -> None:
    """Breaks in one of the ways, or answers properly."""
    chance = exchange.provider.chance
    drawn = int(chance.random() / CHANCE)
    kind = KINDS[drawn] if drawn < len(KINDS) else ""
    if kind or chance.random() < _PACED_SHARE:
        exchange.token_seconds = _TOKEN_SECONDS
    fault, _, argument = kind.partition(":")
    await FAULTS[fault](exchange, argument)


def texts(*providers: FaultyProvider) -> dict[str, str]:
    """Returns every answer that is right: its text → the provider's name, or the fault's."""
    return {
        **{provider.text: provider.name for provider in providers},
        EMOJI * 4: "split-utf8",
        "x" * (1024 * 1024): "huge",
    }
