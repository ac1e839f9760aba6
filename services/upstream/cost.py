"""What was used where the provider does not say."""

from pointsman.prices import estimated_tokens
from pointsman.upstream.v1 import upstream_pb2 as pb


def estimated(sent_characters: int, characters: int) -> pb.Usage:
    """Returns the usage of an answer that was cut off, marked as estimated.

    Args:
        sent_characters: Of text in the request's messages.
        characters: Of text in the answer, as far as it came.
    """
    return pb.Usage(
        input_tokens=estimated_tokens(sent_characters),
        output_tokens=estimated_tokens(characters),
        estimated=True,
    )
