"""`pointsman keys`: make, list and revoke the API keys of a gateway that others can reach."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pointsman.errors import ConfigError
from pointsman.files import whole_file

if TYPE_CHECKING:
    from pointsman.api_keys import ApiKey

_KEYS_EXAMPLES = """\
examples:
  pointsman keys create team-a --file keys.yaml
      a key for every router and model; its digest goes into keys.yaml
  pointsman keys list --file keys.yaml
  pointsman keys revoke team-a --file keys.yaml
  POINTSMAN_KEYS_FILE=keys.yaml pointsman serve --host 0.0.0.0
      everybody who calls now needs one; the gateway reads the file when it starts
"""
_CREATE_EXAMPLES = """\
examples:
  pointsman keys create team-a --file keys.yaml
      a key for every router and model
  pointsman keys create team-a --routers mf random --models --file keys.yaml
      only what mf and random choose; no model may be named directly
  pointsman keys create team-a --models weak > team-a.key
      a key that may name the weak model or any router; its entry is printed, for a file elsewhere

The key alone goes to standard output, once: only its SHA-256 is kept. A new file can be read by you
alone; see that the gateway can read it too. A file that exists keeps its text, comments and all.
"""
_LIST_EXAMPLES = """\
examples:
  pointsman keys list --file keys.yaml
"""
_REVOKE_EXAMPLES = """\
examples:
  pointsman keys revoke team-a --file keys.yaml

The gateway reads the file when it starts: restart it, and the key is refused.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `keys` with its subcommands to the command line."""
    parser = _parser(
        subparsers,
        "keys",
        _KEYS_EXAMPLES,
        help="make, list and revoke API keys of the gateway",
        description="Make, list and revoke API keys of the gateway. Only their SHA-256 is kept.",
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    create = _parser(
        actions,
        "create",
        _CREATE_EXAMPLES,
        help="make a key and print it once",
        description="Make a key of 256 random bits and print it once.",
    )
    create.add_argument("name", metavar="NAME", help="whose key it is; stands in the gateway's log")
    create.add_argument(
        "--routers", nargs="*", metavar="NAME", help="routers it may use (default: all)"
    )
    create.add_argument(
        "--models", nargs="*", metavar="NAME", help="models it may name directly (default: all)"
    )
    create.add_argument("--file", metavar="FILE", help="add its entry to this file")
    create.set_defaults(run=_create)
    listing = _parser(
        actions,
        "list",
        _LIST_EXAMPLES,
        help="list names, and what each may use",
        description="List the names in a file, and what each may use. It holds no keys to show.",
    )
    listing.add_argument("--file", required=True, metavar="FILE", help="file of keys")
    listing.set_defaults(run=_list)
    revoke = _parser(
        actions,
        "revoke",
        _REVOKE_EXAMPLES,
        help="remove a key from a file",
        description="Remove a key from a file; nobody can use it after the gateway's next start.",
    )
    revoke.add_argument("name", metavar="NAME", help="whose key")
    revoke.add_argument("--file", required=True, metavar="FILE", help="file of keys")
    revoke.set_defaults(run=_revoke)


def _parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    examples: str,
    **texts: Any,
) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter, **texts
    )


def _create(args: argparse.Namespace) -> int:
    """Prints a new key; raises ConfigError if the name is taken or a file cannot be used."""
    from pointsman.api_keys import entry_text, new_key, parse_keys, read_text, sha256_of, with_key

    secret = new_key()
    allowed = {"routers": args.routers, "models": args.models}
    lists = {field: names for field, names in allowed.items() if names is not None}
    made = parse_keys({args.name: {"sha256": sha256_of(secret), **lists}}, "the command line")
    key = made[args.name]
    if args.file:
        path = Path(args.file)
        text = read_text(args.file) if path.exists() else ""
        _write(path, with_key(text, args.name, key, args.file))
        _say(f"added {args.name} to {args.file}; restart the gateway that reads it")
    else:
        _say(f"add this under keys: in the gateway's file\n  {entry_text(args.name, key)}")
    _say(f"{args.name} may use {_allowed(key)}")
    _say("this is the only time that the key is shown; clients send it as their API key:")
    print(secret)
    return 0


def _list(args: argparse.Namespace) -> int:
    """Prints a line a key; raises ConfigError if the file does not fit."""
    from pointsman.api_keys import read_keys_file

    keys = read_keys_file(args.file)
    width = max(map(len, keys))
    for name, key in keys.items():
        print(f"{name:<{width}}  {_allowed(key)}")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    """Removes a key; raises ConfigError if there is none of this name, or the file does not fit."""
    from pointsman.api_keys import raw_keys, read_text, without_key

    text = without_key(read_text(args.file), args.name, args.file)
    _write(Path(args.file), text)
    _say(f"removed {args.name} from {args.file}; restart the gateway that reads it")
    if not raw_keys(text, args.file):
        _say("no key is left there, and the gateway does not start with an empty file")
    return 0


def _write(path: Path, text: str) -> None:
    try:
        new = not path.exists()
        with whole_file(path) as stream:
            if new:
                os.fchmod(stream.fileno(), 0o600)
            stream.write(text.encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _allowed(key: ApiKey) -> str:
    return f"{_some('router', key.routers)}; {_some('model', key.models)}"


def _some(kind: str, names: Collection[str] | None) -> str:
    if names is None:
        return f"every {kind}"
    return f"{kind}s: {', '.join(names)}" if names else f"no {kind}"


def _say(text: str) -> None:
    print(f"pointsman: {text}", file=sys.stderr)
