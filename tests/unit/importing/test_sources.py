"""Where a checkpoint is: a path here, or a name on a hub that may be out of reach."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from pointsman.errors import ConfigError
from pointsman.importing.sources import local_path
from pointsman.routers.imported import origin_of
from tests.conftest import missing

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "model.safetensors": b"weights",
    "config.json": b"{}",
    "modeling.py": b"raise SystemExit('never run')",
}


class Hub(BaseHTTPRequestHandler):
    """One model with some files, as the Hugging Face hub answers for it."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        """Says what a file is."""
        self._answer(b"")

    def do_GET(self) -> None:
        """Lists the model's files, or sends one."""
        self._answer(None)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def _answer(self, body: bytes | None) -> None:
        path = self.path.split("?")[0]
        self.asked.append(path)
        name = path.rsplit("/", 1)[-1]
        headers = {"X-Repo-Commit": COMMIT}
        if path.startswith("/api/models/them/mf") and "/tree/" in path:
            content = json.dumps(
                [
                    {"type": "file", "path": key, "size": len(value), "oid": "0" * 40}
                    for key, value in FILES.items()
                ]
            ).encode()
        elif path.startswith("/api/models/them/mf"):
            siblings = [{"rfilename": key} for key in FILES]
            content = json.dumps({"id": "them/mf", "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith("/them/mf/resolve/") and name in FILES:
            content = FILES[name]
            headers["ETag"] = f'"{hashlib.sha1(content).hexdigest()}"'
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content if body is None else body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of a hub on this machine; what is fetched is kept in the test's own folder."""
    try:
        from huggingface_hub import constants
    except ModuleNotFoundError:
        missing("huggingface_hub", "pip install 'pointsman[import]'")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    Hub.asked.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_here_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path may look like a name on the hub."""
    (tmp_path / "them" / "mf").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert local_path("them/mf", "model", endpoint="http://127.0.0.1:1") == Path("them/mf")


def test_a_name_on_the_hub_is_fetched_without_its_code(hub: str) -> None:
    """Weights and configuration, never a Python file."""
    folder = local_path("them/mf", "model", endpoint=hub)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert not any(path.endswith(".py") for path in Hub.asked)


def test_an_unknown_name_says_what_to_do(hub: str) -> None:
    """One line."""
    with pytest.raises(ConfigError, match=r"`them/nothing` is no path here.*name its folder") as no:
        local_path("them/nothing", "model", endpoint=hub)
    assert "\n" not in str(no.value)


def test_without_a_network_the_remedy_is_named(hub: str) -> None:
    """Nobody listens at port 1."""
    with pytest.raises(ConfigError, match="download the dataset where there is a network and name"):
        local_path("them/battles", "dataset", endpoint="http://127.0.0.1:1")


@pytest.mark.parametrize("source", ["nowhere", "./them/mf", "a/b/c", "/them/mf", "them/", ""])
def test_what_is_neither_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """No hub is asked."""
    monkeypatch.chdir(tmp_path)
    if source == "":
        assert local_path(source, "model") == Path()
        return
    with pytest.raises(ConfigError, match="there is no such file or folder; name one, or a model"):
        local_path(source, "model", endpoint="http://127.0.0.1:1")


def test_a_bundle_tells_no_paths(tmp_path: Path) -> None:
    """A name on the hub stays; of a path, the last folder."""
    (tmp_path / "secret" / "mf").mkdir(parents=True)
    sources = [str(tmp_path / "secret" / "mf"), "routellm/gpt4_judge_battles"]
    assert origin_of(sources) == "mf, routellm/gpt4_judge_battles"
