"""The upstream: chosen model in, completion out."""
