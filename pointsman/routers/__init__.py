"""Routers: prompts in, strong win rates out; they never choose, `pointsman.routing.decide` does.

Everything here is synchronous and thread-safe, runs on numpy, onnxruntime and tokenizers alone,
and opens no network connection.
"""
