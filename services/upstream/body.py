"""The client's body → the provider's: `model`, and for streams the wish for usage; no other byte.

Values are carried over as they were written: numbers keep their digits, strings their escapes,
fields that OpenAI has not invented yet their place.
"""

from typing import Any

import msgspec

from pointsman.errors import InvalidRequest
from pointsman.json_text import JsonDecoder, RawObject, encode_members
from services.upstream.sse import characters_of

_decoder = JsonDecoder[RawObject](RawObject)
_any_decoder = JsonDecoder[Any](Any)
_TRUE = msgspec.Raw(b"true")


class ClientBody:
    """A client's body, which can be addressed to any provider.

    Args:
        body: A JSON object, UTF-8.

    Raises:
        InvalidRequest: The body is not a JSON object.
    """

    def __init__(self, body: bytes) -> None:
        try:
            self._fields = _decoder.decode(body)
        except ValueError as error:
            raise InvalidRequest(f"the body is not a JSON object: {error}") from error

    def address_to(self, provider_model: str, *, want_usage: bool) -> tuple[bytes, bool]:
        """Returns the body for the provider, and whether usage is asked for against the client.

        Args:
            provider_model: What the provider calls the model.
            want_usage: True for a stream whose provider may be asked for `include_usage`.
        """
        fields = dict(self._fields)
        fields["model"] = msgspec.Raw(msgspec.json.encode(provider_model))
        added = want_usage and _ask_for_usage(fields)
        return encode_members(fields), added

    def choices(self) -> int:
        """Returns how many answers are asked for; 1 where `n` makes no sense."""
        given = bytes(self._fields.get("n", b"1"))
        return int(given) if given.isdigit() and len(given) < 4 else 1

    def characters(self) -> int:
        """Returns how much text the messages have: what a provider is owed that gave no usage."""
        try:
            messages = _any_decoder.decode(bytes(self._fields.get("messages", b"null")))
        except ValueError:  # nested so deeply that it could not be read a second time
            return 0
        return characters_of(messages)


def _ask_for_usage(fields: RawObject) -> bool:
    given = bytes(fields.get("stream_options", b"null"))
    try:
        options = {} if given == b"null" else _decoder.decode(given)
    except ValueError:
        return False  # not an object: the provider will say what is wrong with it
    if bytes(options.get("include_usage", b"null")) not in {b"null", b"false"}:
        return False
    options["include_usage"] = _TRUE
    fields["stream_options"] = msgspec.Raw(encode_members(options))
    return True
