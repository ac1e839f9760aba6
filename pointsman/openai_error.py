"""OpenAI's error shape, which every OpenAI client reads."""

import msgspec


def encode_error(message: str, type_: str, *, param: str | None, code: str | None) -> bytes:
    """Returns `{"error": {...}}` as JSON, with the four keys that OpenAI's schema requires."""
    error = {"message": message, "type": type_, "param": param, "code": code}
    return msgspec.json.encode({"error": error})
