"""Tokens and prices → US dollars: one formula for who bills and who compares."""

from dataclasses import dataclass
from typing import Protocol

CHARACTERS_PER_TOKEN = 4
"""English text has about so many in the tokenizers of the day (OpenAI's help page "What are tokens
and how to count them?")."""


def estimated_tokens(characters: int) -> int:
    """Returns about how many tokens a text has, rounded up as a provider would."""
    return -(-characters // CHARACTERS_PER_TOKEN)


class Tokens(Protocol):
    """How much was used; the wire's `Usage` is one."""

    @property
    def input_tokens(self) -> int:
        """Returns the tokens of the prompt."""

    @property
    def cached_input_tokens(self) -> int:
        """Returns those of them that the provider had in its prompt cache."""

    @property
    def output_tokens(self) -> int:
        """Returns the tokens of the answer."""

    @property
    def reasoning_tokens(self) -> int:
        """Returns those of them that were spent on reasoning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a model's tokens cost, in US dollars per million."""

    input: float
    cached_input: float
    output: float
    reasoning: float

    def dollars(self, tokens: Tokens) -> float:
        """Returns what the tokens cost, 0 or more.

        Some providers state more cached tokens than tokens; what is too much does not count.
        """
        cached = min(tokens.cached_input_tokens, tokens.input_tokens)
        reasoning = min(tokens.reasoning_tokens, tokens.output_tokens)
        return (
            (tokens.input_tokens - cached) * self.input
            + cached * self.cached_input
            + (tokens.output_tokens - reasoning) * self.output
            + reasoning * self.reasoning
        ) / 1e6
