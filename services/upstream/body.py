"""The client's body → the provider's: `model`, and for streams the wish for usage; no other byte.

Values are carried over as they were written: numbers keep their digits, strings their escapes,
fields that OpenAI has not invented yet their place.
"""

from typing import Any

import msgspec

from pointsman.errors import InvalidRequest
from pointsman.json_text import JsonDecoder, RawObject

_decoder = JsonDecoder[RawObject](RawObject)
_encode = msgspec.json.Encoder().encode
_USAGE = {"include_usage": True}


def address_to(body: bytes, provider_model: str, *, want_usage: bool) -> tuple[bytes, bool]:
    """Returns the body for the provider, and whether usage was added that the client did not want.

    Args:
        body: A JSON object, UTF-8.
        provider_model: What the provider calls the model.
        want_usage: True for a stream whose provider may be asked for `include_usage`.

    Raises:
        InvalidRequest: The body is not a JSON object.
    """
    try:
        fields = _decoder.decode(body)
    except ValueError as error:
        raise InvalidRequest(f"the body is not a JSON object: {error}") from error
    fields["model"] = msgspec.Raw(_encode(provider_model))
    added = want_usage and _ask_for_usage(fields)
    return _encode(fields), added


def _ask_for_usage(fields: RawObject) -> bool:
    if "stream_options" not in fields:
        fields["stream_options"] = msgspec.Raw(_encode(_USAGE))
        return True
    options: Any = msgspec.json.decode(fields["stream_options"])
    if options is not None and not isinstance(options, dict):
        return False  # the provider will say what is wrong with it
    if options and options.get("include_usage"):
        return False
    fields["stream_options"] = msgspec.Raw(_encode({**(options or {}), **_USAGE}))
    return True
