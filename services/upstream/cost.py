"""Usage and prices → US dollars, and usage where the provider gave none."""

from pointsman.models_file import ModelSettings
from pointsman.upstream.v1 import upstream_pb2 as pb

_CHARACTERS_PER_TOKEN = 4
"""English text in the tokenizers of the day has about four characters a token (OpenAI's help page
"What are tokens and how to count them?")."""


def dollars(usage: pb.Usage, prices: ModelSettings) -> float:
    """Returns what the tokens cost."""
    input_price = prices.input_price_per_million
    output_price = prices.output_price_per_million
    cached_price = _or(prices.cached_input_price_per_million, input_price)
    reasoning_price = _or(prices.reasoning_price_per_million, output_price)
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    reasoning = min(usage.reasoning_tokens, usage.output_tokens)
    return (
        (usage.input_tokens - cached) * input_price
        + cached * cached_price
        + (usage.output_tokens - reasoning) * output_price
        + reasoning * reasoning_price
    ) / 1e6


def estimated(sent_characters: int, characters: int) -> pb.Usage:
    """Returns the usage of an answer that was cut off, marked as estimated.

    Args:
        sent_characters: Of text in the request's messages.
        characters: Of text in the answer, as far as it came.
    """
    return pb.Usage(
        input_tokens=_tokens(sent_characters), output_tokens=_tokens(characters), estimated=True
    )


def _tokens(size: int) -> int:
    return -(-size // _CHARACTERS_PER_TOKEN)


def _or(price: float | None, default: float) -> float:
    return default if price is None else price
