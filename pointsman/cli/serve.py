"""`pointsman serve`: the whole cluster on this machine, from an installed package."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from pointsman.extras import needed_from

_EXAMPLES = """\
examples:
  pointsman serve
      mf and random over the demo provider: nothing to configure, no key
  pointsman serve --strong-model gpt-4.1 --weak-model ollama_chat/llama3.2
      OpenAI (OPENAI_API_KEY) and a local Ollama; model names as LiteLLM has them
  pointsman serve --routers mf --config config.yaml --base-url http://127.0.0.1:8000/v1 \\
      --strong-model big --weak-model small
      both models at one OpenAI-compatible server, RouteLLM's way
  pointsman serve --models models.yaml --strong-model big --weak-model small
      models, prices and keys' variables from a file; the pair named in it

Keys: a key on the command line shows in `ps`; OPENAI_API_KEY, GROQ_API_KEY and so on do not.
Everything else is a POINTSMAN_... variable, such as POINTSMAN_SCORER_PORT; the README has a table.
Ctrl-C stops everything; requests in flight finish first, and a second Ctrl-C cuts them off.
Needs `pip install 'pointsman[serve]'`.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `serve` to the command line."""
    parser = subparsers.add_parser(
        "serve",
        help="start the cluster: an OpenAI-compatible server that routes",
        description="Start gateway, scorer and upstream on this machine and serve OpenAI's API.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--routers", nargs="+", metavar="NAME", help="routers to serve (default: the config's)"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="YAML that says what the routers are; RouteLLM's too"
    )
    _add_models(parser)
    parser.add_argument(
        "--host", help="address to listen on (default: 127.0.0.1; beyond it API keys are needed)"
    )
    parser.add_argument(
        "--port", type=_port, help="port to listen on (default: 6060; 0 takes any free one)"
    )
    parser.add_argument(
        "--workers", type=_count, help="threads that score (default: 0, which is one a core)"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="log a line a request; prompts are never logged"
    )
    parser.set_defaults(run=run)


def _add_models(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models", "without any of these: a demo provider")
    group.add_argument("--strong-model", metavar="MODEL", help="the strong model")
    group.add_argument("--weak-model", metavar="MODEL", help="the weak model")
    group.add_argument("--base-url", metavar="URL", help="where both models are")
    group.add_argument("--api-key", metavar="KEY", help="its key; better in OPENAI_API_KEY")
    group.add_argument("--alt-base-url", metavar="URL", help="where the weak model is")
    group.add_argument("--alt-api-key", metavar="KEY", help="key for the weak model")
    group.add_argument("--models", metavar="FILE", help="models file: models, providers, prices")


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C or SIGTERM; returns the cluster's exit status.

    Raises:
        ConfigError: Something is not installed, or an option or a file is wrong.
        UnknownRouter: There is no such router here.
    """
    with needed_from("serve", "pointsman serve"):
        for module in ("aiohttp", "grpc", "grpc_health", "grpc_reflection", "prometheus_client"):
            _require(module)
        from pointsman.cli.cluster_process import run_cluster
        from pointsman.cli.cluster_settings import Flags, cluster_environ
    flags = Flags(**{name: value for name, value in vars(args).items() if name != "run"})
    with tempfile.TemporaryDirectory(prefix="pointsman-serve-") as folder:
        environ, notes = cluster_environ(flags, os.environ, Path(folder))
        for note in notes:
            print(f"pointsman: {note}", file=sys.stderr)
        return run_cluster(environ)


def _require(module: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise ModuleNotFoundError(name=module)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)
