"""Seed → prompts for the load: written by templates of ours, as long and as uneven as real ones.

Real prompts (MT-Bench, GSM8K, MMLU) have a median of 55 tokens, a 90th percentile of 172 and a 99th
of 384; by MiniLM's tokenizer, ours have 55, 167 and 421.
"""

import random
from collections.abc import Iterator

PLAIN_START = 40
"""Every prompt begins with so many characters that need no escaping in JSON."""

_MEDIAN_TOKENS = 55.0
_SPREAD = 0.87
_SHORTEST_TOKENS, _LONGEST_TOKENS = 16, 600
_TOKENS_PER_WORD = 1.25  # these texts, MiniLM's tokenizer

_OPENINGS = (
    "Explain {topic} to {who} in about {n} words.",
    "What is the difference between {topic} and {other}? Give {n} examples.",
    "Write a {tone} message to {n} customers about {topic}.",
    "{who} has {n} boxes with {m} {things} each and sells {k} of them. How many are left?",
    "My {kind} script fails after {n} rows when it handles {topic}. Where should I look first?",
    "Summarise the notes below for {who} in at most {n} words.",
    "Which is better for a team of {n}: {topic} or {other}? Decide, and say why.",
    "Translate this order for {n} {things} into {language} and keep the tone {tone}.",
    "Plan a workshop of {n} minutes on {topic} for {who}.",
    "Write a {kind} function that groups {n} {things} by weight, and test it.",
)
_DETAILS = (
    "So far we have tried {topic}, which took {n} days and convinced nobody.",
    "Please keep it {tone}, since {who} will read it before {other} is discussed.",
    "The budget is {n} euros, of which {m} are already spent on {things}.",
    "In {place} the same question came up with {things}, and the answer was wrong.",
    "Note that {m} of the {n} {things} were delivered to {place} by mistake.",
    "Assume that the reader knows {topic} but has never heard of {other}.",
    "The log says `{kind}: expected {n} {things}, found {m}` and then stops.",
    'One colleague wrote: "It was {who} who asked for {topic}, not for {other}."',
    "First list what is certain; then name {n} things that you would check, step by step.",
    "On Monday {who} counted {n} {things}, on Friday only {m}.",
)
_NUMBERS = frozenset("nmk")
_SLOTS = {
    "topic": (
        "photosynthesis", "database indexes", "compound interest", "tidal energy", "unit testing",
        "the French Revolution", "sourdough baking", "graph colouring", "vaccination", "rent law",
        "garbage collection", "plate tectonics", "jazz harmony", "supply chains", "game theory",
    ),
    "other": (
        "osmosis", "full table scans", "simple interest", "wind power", "integration testing",
        "the Congress of Vienna", "flatbread", "bin packing", "quarantine", "land registers",
        "reference counting", "erosion", "counterpoint", "just-in-time delivery", "auctions",
    ),
    "who": (
        "a nurse", "my grandmother", "a new colleague", "the school board", "a ten-year-old",
        "an accountant", "our landlord", "a visiting engineer", "the night shift", "a novelist",
    ),
    "things": ("apples", "invoices", "bicycles", "sensors", "tickets", "bolts", "maps", "violins"),
    "tone": ("friendly", "formal", "short", "patient", "cheerful", "neutral", "firm"),
    "kind": ("Python", "shell", "SQL", "Rust", "TypeScript", "Go"),
    "language": ("German", "Portuguese", "Japanese", "Swahili", "Finnish", "Arabic"),
    "place": ("Lisbon", "Osaka", "Nairobi", "Tampere", "Quito", "Halifax", "Leipzig"),
}  # fmt: skip


def prompts(seed: str) -> Iterator[str]:
    """Yields prompts for ever, no two alike; the same ones for the same seed."""
    source = random.Random(seed)
    seen: set[int] = set()
    while True:
        prompt = _prompt(source)
        if (key := hash(prompt)) not in seen:
            seen.add(key)
            yield prompt


def _prompt(source: random.Random) -> str:
    tokens = source.lognormvariate(0.0, _SPREAD) * _MEDIAN_TOKENS
    words = min(max(tokens, _SHORTEST_TOKENS), _LONGEST_TOKENS) / _TOKENS_PER_WORD
    sentences = [_sentence(source, _OPENINGS)]
    count = len(sentences[0].split())
    while count < words:
        sentences.append(_sentence(source, _DETAILS))
        count += len(sentences[-1].split())
    # A prompt ends where its length says, in mid-sentence if need be, but its question stays whole.
    kept = max(len(sentences[0].split()), round(words))
    return " ".join(" ".join(sentences).split(" ")[:kept])


def _sentence(source: random.Random, templates: tuple[str, ...]) -> str:
    sentence = _one_of(source, templates).format_map(_Filling(source))
    return sentence[0].upper() + sentence[1:]


class _Filling(dict[str, str]):
    """Slot → what to put there, chosen when a template asks for it."""

    def __init__(self, source: random.Random) -> None:
        super().__init__()
        self._source = source

    def __missing__(self, slot: str) -> str:
        if slot in _NUMBERS:
            return str(2 + int(998 * self._source.random() ** 2))
        return _one_of(self._source, _SLOTS[slot])


def _one_of(source: random.Random, values: tuple[str, ...]) -> str:
    return values[int(source.random() * len(values))]  # a fifth of what `choice` takes
