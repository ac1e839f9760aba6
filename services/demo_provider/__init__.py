"""A small OpenAI-compatible provider for first runs and tests: a process like any other."""
