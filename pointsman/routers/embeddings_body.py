"""The bodies of OpenAI's `/v1/embeddings`: texts → a request, an answer → checked embeddings.

Opens no connection: the scorer's client and the tools' each have one, and read answers here.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError, ProviderNonsense
from pointsman.routers.embedding import EmbedderSettings, clean_text

_NUMBER_BYTES = 40
"""The longest a number gets as text, its comma and white space included."""
_ENVELOPE_BYTES = 65_536


class WrongDimension(ConfigError):
    """The endpoint's embeddings have another length than those the router was trained on."""


class _Item(msgspec.Struct):
    embedding: str | list[float]
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Item]


_decoder = msgspec.json.Decoder(_Answer)


def text_to_send(text: str, encoder: EmbedderSettings) -> str:
    """Returns the start of a text as endpoints accept it: valid Unicode, bounded and not empty."""
    return clean_text(text, encoder.max_characters) or " "


def request_body(model: str, texts: Sequence[str]) -> bytes:
    """Returns the body that asks for n texts.

    In base64, as the `openai` client does: a third of the bytes, and the numbers exactly. Endpoints
    that do not know it answer with lists of numbers.
    """
    return msgspec.json.encode({"model": model, "input": texts, "encoding_format": "base64"})


def answer_limit_bytes(count: int, dimension: int) -> int:
    """Returns how long the answer for n texts may be; a longer one is nonsense."""
    return _ENVELOPE_BYTES + count * dimension * _NUMBER_BYTES


def read_embeddings(body: bytes, count: int, encoder: EmbedderSettings) -> NDArray[np.float32]:
    """Returns float32[n, d], row i for text i, in whatever order the endpoint lists them.

    Args:
        body: The answer to `request_body`.
        count: How many texts were sent, n.
        encoder: Names the dimension d.

    Raises:
        ProviderNonsense: Not an answer to n texts, or a number is not finite.
        WrongDimension: An embedding has another length than d; names both.
    """
    try:
        items = _decoder.decode(body).data
    except (ValueError, RecursionError) as error:
        raise ProviderNonsense(f"the endpoint's answer holds no embeddings: {error}") from error
    if len(items) != count:
        raise ProviderNonsense(f"the endpoint answers {count} texts with {len(items)} embeddings")
    rows = np.empty((count, encoder.dimension), dtype=np.float32)
    for place, item in zip(_places(items), items, strict=True):
        numbers = _numbers(item.embedding)
        if len(numbers) != encoder.dimension:
            raise WrongDimension(
                f"the endpoint's embeddings have {len(numbers)} numbers and the bundle names "
                f"{encoder.dimension}, of {encoder.model}; name that model, or its endpoint, under "
                "the router's embeddings"
            )
        rows[place] = numbers
    if not np.isfinite(rows).all():
        raise ProviderNonsense("the endpoint's embeddings hold numbers that are not finite")
    return rows


def _places(items: Sequence[_Item]) -> Sequence[int]:
    """Returns each item's row: by its index, or its place where no item has an index."""
    places = [item.index for item in items if item.index is not None]
    if not places:
        return range(len(items))
    if sorted(places) != list(range(len(items))):
        raise ProviderNonsense(f"the endpoint numbers its embeddings {places[:8]}, not 0 to n-1")
    return places


def _numbers(embedding: str | list[float]) -> NDArray[np.float32]:
    """Returns float32[any]; little-endian float32 in base64, or a list of numbers."""
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is found
        if isinstance(embedding, list):
            return np.asarray(embedding, dtype=np.float64).astype(np.float32)
        try:
            data = base64.b64decode(embedding, validate=True)
            return np.frombuffer(data, dtype="<f4").astype(np.float32)
        except ValueError as error:
            raise ProviderNonsense(
                f"the endpoint's embeddings are no float32 in base64: {error}"
            ) from error
