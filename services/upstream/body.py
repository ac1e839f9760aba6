"""The client's body → the provider's: `model`, and for streams the wish for usage; no other byte.

Values are carried over as they were written: numbers keep their digits, strings their escapes,
fields that OpenAI has not invented yet their place.
"""

import msgspec

from pointsman.errors import InvalidRequest
from pointsman.json_text import JsonDecoder, RawObject, encode_members

_decoder = JsonDecoder[RawObject](RawObject)
_TRUE = msgspec.Raw(b"true")


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
    fields["model"] = msgspec.Raw(msgspec.json.encode(provider_model))
    added = want_usage and _ask_for_usage(fields)
    return encode_members(fields), added


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
