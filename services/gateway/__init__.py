"""The gateway: OpenAI's HTTP in, a routed answer out."""
