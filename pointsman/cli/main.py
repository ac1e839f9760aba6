"""`pointsman`: one command, a subcommand for each thing to do."""

import argparse
import sys
from collections.abc import Sequence

from pointsman import __version__
from pointsman.cli import train
from pointsman.errors import PointsmanError

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status.

    0 if all went well, 1 with one line on standard error if not, 2 if the command line is wrong,
    130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="pointsman", description=__doc__)
    parser.add_argument("--version", action="version", version=f"pointsman {__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    train.add_parser(subparsers)
    parsed = parser.parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
    except PointsmanError as error:
        print(f"pointsman: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return status


if __name__ == "__main__":
    sys.exit(main())
