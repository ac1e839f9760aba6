"""`pointsman`: one command, a subcommand for each thing to do."""

import argparse
import os
import sys
from collections.abc import Sequence

from pointsman import __version__
from pointsman.cli import (
    calibrate,
    data,
    evaluate,
    import_checkpoint,
    keys,
    report,
    route,
    score,
    serve,
    train,
)
from pointsman.errors import PointsmanError

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_COMMANDS = (serve, keys, route, score, calibrate, evaluate, report, data, train, import_checkpoint)
"""In the order in which people meet them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status.

    0 if all went well, 1 with one line on standard error if not, 2 if the command line is wrong,
    130 after Ctrl-C, 141 if whoever read the output has gone.
    """
    parser = command_line()
    try:
        parsed = _parsed(parser, arguments)
        status: int = parsed.run(parsed)
        sys.stdout.flush()
    except PointsmanError as error:
        print(f"pointsman: {error}", file=sys.stderr)
        return EXIT_ERROR
    except ModuleNotFoundError as error:  # `pip install pointsman` alone brings no router
        print(
            f"pointsman: {error.name} is not installed; run `pip install 'pointsman[eval]'`",
            file=sys.stderr,
        )
        return EXIT_ERROR
    except BrokenPipeError:  # `pointsman score ... | head`
        _let_go_of_standard_output()
        return EXIT_BROKEN_PIPE
    except OSError as error:  # a full disk behind standard output
        print(f"pointsman: {error}", file=sys.stderr)
        _let_go_of_standard_output()
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return status


def command_line() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line; what it parses has `run`."""
    parser = argparse.ArgumentParser(
        prog="pointsman",
        description="Routes prompts to a strong or a weak language model, and the tools around it.",
        epilog="Every command has examples: pointsman COMMAND --help",
    )
    parser.add_argument("--version", action="version", version=f"pointsman {__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(subparsers)
    return parser


def _let_go_of_standard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python's last flush must not fail again


def _parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    try:
        return parser.parse_args(arguments)
    except SystemExit:
        sys.stdout.flush()  # `pointsman score --help | head -1`: a broken pipe shows here
        raise


if __name__ == "__main__":
    sys.exit(main())
