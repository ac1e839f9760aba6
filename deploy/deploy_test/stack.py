"""docker-compose.yml as a running project: what the scenario asks of compose and of the engine."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.deploy_test import shell
from deploy.deploy_test.shell import ROOT

PROJECT = "pointsman-deploy-test"
OWN = ("gateway", "scorer", "upstream", "demo-provider")
_LABEL = f"label=com.docker.compose.project={PROJECT}"


@dataclass(frozen=True, slots=True)
class Stack:
    """The project.

    Attributes:
        compose: The command of compose: `docker compose`, or a program of its own.
        services: What is started; what these need is started with them.
        env_file: What sets the variables of docker-compose.yml.
    """

    compose: Sequence[str]
    services: Sequence[str]
    # By default an empty one: what the user's .env sets is not what is tested here.
    env_file: str = os.devnull

    def run(self, *arguments: str) -> str:
        """Returns what a compose command printed.

        Raises:
            Failed: Its status is not 0.
        """
        options = ("--project-name", PROJECT, "--env-file", self.env_file, "--progress", "plain")
        return shell.run(*self.compose, *options, *arguments)

    def up(self, *options: str) -> None:
        """Starts what is not running, and waits until all of it is healthy.

        Raises:
            Failed: Something did not get healthy; has the end of the services' logs.
        """
        try:
            self.run("up", "--detach", "--wait", "--no-build", *options, *self.services)
        except shell.Failed as error:
            raise shell.Failed(f"{error}\n{self.run('logs', '--tail', '8')}") from error

    def containers(self, service: str) -> list[str]:
        """Returns the ids of a service's running containers."""
        return self.run("ps", "--quiet", service).split()

    def metric(self, container: str, port: int, name: str) -> float:
        """Returns the sum of a metric over its labels, as the container itself tells it."""
        fetch = f"import urllib.request as r;print(r.urlopen('http://127.0.0.1:{port}/metrics').read().decode())"
        text = shell.run("docker", "exec", container, "python", "-c", fetch)
        values = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, flags=re.MULTILINE)
        return sum(map(float, values))

    def down(self) -> None:
        """Stops everything and removes containers, networks and volumes.

        Raises:
            Failed: Something of the project is still there.
        """
        self.run("down", "--volumes", "--remove-orphans")
        for kind in ("container", "network", "volume"):
            every = ("--all",) if kind == "container" else ()
            left = shell.run("docker", kind, "ls", "--quiet", *every, "--filter", _LABEL)
            if left:
                raise shell.Failed(f"{kind} left: {' '.join(left.split())}")


def python_image() -> str:
    """Returns the base image of our images."""
    recipe = (ROOT / "services" / "gateway" / "Dockerfile").read_text(encoding="utf-8")
    (image,) = re.findall(r"^ARG PYTHON=(\S+)$", recipe, flags=re.MULTILINE)
    return str(image)


def images(compose: Sequence[str]) -> dict[str, str]:
    """Returns each service's image."""
    config = json.loads(shell.run(*compose, "--env-file", os.devnull, "config", "--format", "json"))
    return {name: service["image"] for name, service in config["services"].items()}


def size_bytes(image: str) -> int:
    """Returns the size of an image on disk, with what it shares."""
    return int(shell.run("docker", "image", "inspect", "--format", "{{.Size}}", image))


def readme_curl() -> str:
    """Returns the README's first request, word for word."""
    text = Path(ROOT / "README.md").read_text(encoding="utf-8")
    return str(re.findall(r"```sh\n(curl .*?)```", text, flags=re.DOTALL)[0])
