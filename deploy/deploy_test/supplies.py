"""What an engine without a network needs: base images, wheels and the compose plugin.

They come from Debian and from the package index that pip is set to. The base images are stand-ins,
made by debootstrap: Debian's Python where the real image has python.org's, and Debian's Prometheus.
Grafana is in no Debian, so it has none.
"""

import os
import platform
import re
import shutil
import sys
import tempfile
from pathlib import Path

from deploy.deploy_test.shell import ROOT, Missing, need, run, succeeds

_PACKAGES = "ca-certificates,python3,python3-venv,python3-pip,prometheus,wget"
# Debian 12 has the Python of the real base image; Debian 13 has compose of the second kind.
_BASE_RELEASE = "bookworm"
_COMPOSE_RELEASE = "trixie"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PLUGIN = "usr/libexec/docker/cli-plugins/docker-compose"
_TO_BUILD = "setuptools>=77"


def check_machine() -> None:
    """Returns if this machine can run an engine of our own.

    Raises:
        Missing: It cannot; says why and what to do.
    """
    if os.geteuid() != 0:
        raise Missing("no docker engine answers, and only root can start one; start docker")
    if platform.freedesktop_os_release().get("ID") != "debian":
        raise Missing("no docker engine answers, and stand-ins need Debian; start docker")
    need("dockerd", "`apt-get install docker.io`, or start docker")
    need("debootstrap", "`apt-get install debootstrap`, or start docker")
    need("ip", "`apt-get install iproute2`, or start docker")
    need("iptables", "`apt-get install iptables`, or start docker")


class Supplies:
    """A folder with everything; what is already there is not fetched again.

    Args:
        folder: An absolute path; made if it is not there.
        ca_bundle: Certificates that pip trusts on its way to the index, instead of its own.
    """

    def __init__(self, folder: Path, ca_bundle: Path | None = None) -> None:
        self._folder = folder
        self._trusting = ("--cert", ca_bundle.absolute()) if ca_bundle else ()
        self.base = folder / f"{_BASE_RELEASE}+{_PACKAGES.replace(',', '+')}.tar"
        """The root file system of both stand-ins."""
        self.wheels = folder / "wheels"
        """All that the images install, by pip, without an index."""
        self.plugin = folder / "docker-compose"
        """Compose, as a program of its own."""

    def fetch_base(self) -> str:
        """Makes the root file system; returns what it is."""
        if not self.base.exists():
            root, unfinished = self._folder / "root", self._folder / "base.unfinished"
            shutil.rmtree(root, ignore_errors=True)
            run(
                *("debootstrap", "--variant=minbase", f"--include={_PACKAGES}"),
                *(_BASE_RELEASE, root, _mirror()),
            )
            # As in the real image: `python` is there, and pip installs where it is told to.
            (root / "usr/bin/python").symlink_to("python3")
            for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
                marker.unlink()
            run("tar", "-C", root, "--exclude=./var/cache/apt/*", "-cf", unfinished, ".")
            shutil.rmtree(root)
            unfinished.rename(self.base)
        return f"Debian {_BASE_RELEASE}, {self.base.stat().st_size // 1_000_000} MB"

    def fetch_wheels(self) -> str:
        """Downloads what the services depend on; returns how much that is."""
        # Always anew: pyproject.toml may have changed, and pip takes what is there already.
        with tempfile.TemporaryDirectory(dir=self._folder) as made:
            source = Path(made, "source")
            (source / "pointsman").mkdir(parents=True)
            for name in ("pyproject.toml", "LICENSE", "NOTICE"):
                shutil.copy(ROOT / name, source)
            (source / "README.md").touch()
            run(sys.executable, "-m", "venv", Path(made, "venv"))
            run(
                *(Path(made, "venv/bin/pip"), "download", "--quiet", "--dest", self.wheels),
                *("--disable-pip-version-check", "--python-version", "3.11"),
                *("--only-binary=:all:", *self._trusting),
                *(_TO_BUILD, f"{source}[gateway,scorer,upstream]"),
            )
        for own in self.wheels.glob("pointsman-*"):
            own.unlink()
        wheels = list(self.wheels.glob("*.whl"))
        return f"{len(wheels)}, {sum(wheel.stat().st_size for wheel in wheels) // 1_000_000} MB"

    def fetch_plugin(self) -> str:
        """Takes compose out of Debian's package; returns its version."""
        if not self.plugin.exists():
            with tempfile.TemporaryDirectory(dir=self._folder) as made:
                self._download_plugin(Path(made))
        return run(self.plugin, "version", "--short").strip()

    def _download_plugin(self, folder: Path) -> None:
        sources = folder / "sources.list"
        sources.write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {_COMPOSE_RELEASE} main\n")
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        apt = (
            *("apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={sources}"),
            *("-o", "Dir::Etc::sourceparts=/dev/null", "-o", f"Dir::State::lists={folder}/lists"),
            *("-o", f"Dir::Cache={folder}/cache", "-o", "APT::Sandbox::User=root"),
        )
        run(*apt, "update")
        run(*apt, "download", f"docker-compose/{_COMPOSE_RELEASE}", cwd=folder)
        (package,) = folder.glob("docker-compose_*.deb")
        run("dpkg", "-x", package, folder / "unpacked")
        shutil.copy(folder / "unpacked" / _PLUGIN, self.plugin)


def installed_compose() -> list[str] | None:
    """Returns the command of an installed compose of the second kind, or None."""
    return ["docker", "compose"] if succeeds("docker", "compose", "version") else None


def _mirror() -> str:
    """Returns the Debian mirror that this machine is set to."""
    targets = run("apt-get", "indextargets", "--format", "$(SITE) $(ORIGIN) $(COMPONENT)")
    sites = re.findall(r"^(\S+/debian/?) .*\bmain$", targets, flags=re.MULTILINE)
    if not sites:
        raise Missing(
            "apt knows no Debian mirror; add one to /etc/apt/sources.list, or start docker"
        )
    return str(sites[0])
