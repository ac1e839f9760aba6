"""`python -m deploy.deploy_test`: exit status 0 if all is proved, 1 if not, 77 if it cannot be."""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from deploy.deploy_test.engine import in_namespaces, load_stand_ins, own_engine, traces
from deploy.deploy_test.scenario import Report, play
from deploy.deploy_test.shell import Failed, Missing, need, succeeds
from deploy.deploy_test.stack import OWN, Stack, images, python_image
from deploy.deploy_test.supplies import Supplies, check_machine, installed_compose

EXIT_FAILED = 1
EXIT_CANNOT = 77
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


def main() -> int:
    """Proves docker-compose.yml with the engine that can be had; returns the exit status."""
    parser = argparse.ArgumentParser(prog="deploy-test", description=__doc__)
    parser.add_argument(
        "--supplies",
        type=Path,
        metavar="FOLDER",
        help="keep what an engine of our own needs there, for the next time",
    )
    parser.add_argument(
        "--ca-bundle",
        type=Path,
        metavar="FILE",
        help="certificates of the authority that stands before the package index, where a private "
        "one does; for this machine's downloads only, never in an image",
    )
    # How it starts itself in the namespaces.
    parser.add_argument("--isolated", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # So that a kill tidies up, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    try:
        need("docker", "`apt-get install docker.io`, or see docs.docker.com/engine/install")
        need("curl", "`apt-get install curl`")
        if arguments.isolated:
            return _inside(arguments.isolated, Supplies(arguments.supplies))
        if succeeds("docker", "info") and _obtainable(python_image()):
            return _with_running_engine()
        check_machine()
        return _with_own_engine(arguments.supplies, arguments.ca_bundle)
    except Missing as missing:
        print(f"deploy-test: {missing}", file=sys.stderr)
        return EXIT_CANNOT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _with_running_engine() -> int:
    compose = installed_compose()
    if compose is None:
        raise Missing("docker compose is not installed; see docs.docker.com/compose/install")
    print("The engine that runs here, with the images that it has or can fetch.", flush=True)
    report, names = Report(), images(compose)
    monitoring = [name for name in ("prometheus", "grafana") if _obtainable(names[name])]
    play(report, Stack(compose, (*OWN, *monitoring)))
    return _summary(report)


def _obtainable(image: str) -> bool:
    there = succeeds("docker", "image", "inspect", image)
    return there or succeeds("docker", "pull", "--quiet", image)


def _with_own_engine(kept: Path | None, ca_bundle: Path | None) -> int:
    if ca_bundle is not None and not ca_bundle.is_file():
        raise Missing(f"--ca-bundle {ca_bundle}: there is no such file")
    print(
        "An engine of our own, away from this machine's network, with stand-ins for the base "
        "images: Debian's Python for Docker's, Debian's Prometheus for its makers', no Grafana.",
        flush=True,
    )
    before, report = traces(), Report()
    folder = Path(tempfile.mkdtemp(prefix="deploy-test-"))
    supplies_folder = (kept or folder / "supplies").absolute()
    supplies_folder.mkdir(parents=True, exist_ok=True)
    supplies = Supplies(supplies_folder, ca_bundle)
    try:
        fetched = (
            report.step("base image", supplies.fetch_base)
            and report.step("wheels", supplies.fetch_wheels)
            and report.step("compose", supplies.fetch_plugin)
        )
        if fetched and in_namespaces("--isolated", str(folder), "--supplies", str(supplies_folder)):
            report.failures += 1
    finally:
        shutil.rmtree(folder)
    report.step("nothing is left on this machine", lambda: _nothing_left(before))
    return _summary(report)


def _inside(folder: Path, supplies: Supplies) -> int:
    """Runs in the namespaces; returns the exit status."""
    report, compose = Report(), installed_compose() or [str(supplies.plugin)]
    with own_engine(folder):
        names = images(compose)
        stand_ins = {"python": python_image(), "prometheus": names["prometheus"]}
        if report.step("stand-ins", lambda: load_stand_ins(supplies, folder, **stand_ins)):
            play(report, Stack(compose, (*OWN, "prometheus")))
    return EXIT_FAILED if report.failures else 0


def _nothing_left(before: dict[str, frozenset[str]]) -> str:
    for kind, after in traces().items():
        if new := after - before[kind]:
            raise Failed(f"{kind}: {', '.join(sorted(new))}")
    return f"no {', '.join(before)}, files"


def _summary(report: Report) -> int:
    if report.failures:
        print(f"deploy-test: FAILED ({report.failures} steps)")
        return EXIT_FAILED
    print(f"deploy-test: all is proved, in {report.seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
