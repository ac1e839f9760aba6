"""The wire contracts: generated as written, explained, and never broken within a version."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from tests.conftest import missing
from tests.node.packages import installed

ROOT = Path(__file__).parents[2]
BASELINE = Path(__file__).parent / "proto_baseline"
SCORER = Path("pointsman", "scorer", "v1", "scorer.proto")
UPSTREAM = Path("pointsman", "upstream", "v1", "upstream.proto")
# FILE: what was generated from the old proto can be generated from the new one, names and all.
RULES = {"version": "v2", "lint": {"use": ["STANDARD"]}, "breaking": {"use": ["FILE"]}}
PROTOS = sorted((ROOT / "protos").rglob("*.proto"))
GENERATED = sorted(
    path for path in (ROOT / "pointsman").rglob("*_pb2*.py*") if path.suffix in {".py", ".pyi"}
)

# The first test of all that needs them installs them.
needs_packages = pytest.mark.timeout(300)


def protoc(*arguments: str) -> None:
    """Runs the protoc of grpcio-tools with the stub generators beside this Python on its path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if shutil.which("protoc-gen-mypy", path=path) is None:
        missing("protoc-gen-mypy", "make test installs it")
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "protos"), *arguments],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PATH": path},
    )


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    """A proto that changed without `make proto` would ship another contract than it shows."""
    names = [str(path) for path in PROTOS]
    protoc(
        f"--python_out={tmp_path}",
        f"--grpc_python_out={tmp_path}",
        f"--mypy_out=quiet:{tmp_path}",
        f"--mypy_grpc_out=quiet:{tmp_path}",
        *names,
    )
    fresh = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*")}
    checked_in = {path.relative_to(ROOT): path.read_text() for path in GENERATED}
    assert fresh.keys() == checked_in.keys()
    for path, text in fresh.items():
        assert checked_in[path] == text, f"{path} is stale: run make proto"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[descriptor_pb2.FileDescriptorProto]:
    """The protos as descriptors with their comments."""
    path = tmp_path_factory.mktemp("protos") / "set.bin"
    protoc(f"--descriptor_set_out={path}", "--include_source_info", *[str(path) for path in PROTOS])
    return list(descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file)


def test_every_rpc_message_field_and_value_has_a_comment(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    """The proto is the documentation of the wire: no field without unit and range."""
    for file in files:
        explained = {
            tuple(location.path)
            for location in file.source_code_info.location
            if location.leading_comments.strip()
        }
        wanted = {
            (6, s, *more): f"{service.name}.{label}"
            for s, service in enumerate(file.service)
            for more, label in [
                ((), "service"),
                *(((2, m), method.name) for m, method in enumerate(service.method)),
            ]
        }
        wanted |= {
            (4, m, *more): f"{message.name}.{label}"
            for m, message in enumerate(file.message_type)
            for more, label in [
                ((), "message"),
                *(((2, f), field.name) for f, field in enumerate(message.field)),
            ]
            if not message.options.map_entry
        }
        wanted |= {
            (5, e, *more): f"{enum.name}.{label}"
            for e, enum in enumerate(file.enum_type)
            for more, label in [
                ((), "enum"),
                *(((2, v), value.name) for v, value in enumerate(enum.value)),
            ]
        }
        unexplained = [label for path, label in wanted.items() if path not in explained]
        assert not unexplained, f"{file.name}: no comment on {unexplained}"


def test_each_rpc_has_its_own_request_and_response(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    """Messages that rpcs share cannot grow apart later."""
    for file in files:
        for service in file.service:
            for method in service.method:
                assert method.input_type.endswith(f".{method.name}Request")
                assert method.output_type.endswith(f".{method.name}Response")


def buf(*arguments: str | Path) -> set[str]:
    """Returns the names of the rules that buf finds broken."""
    ran = subprocess.run(
        [
            installed() / "node_modules" / ".bin" / "buf",
            *arguments,
            *("--config", json.dumps(RULES), "--error-format", "json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in {0, 100}, ran.stderr
    return {json.loads(line)["type"] for line in ran.stdout.splitlines()}


def breaks(protos: Path) -> set[str]:
    """Returns the rules by which these protos break what the last release promised."""
    return buf("breaking", protos, "--against", BASELINE)


@needs_packages
def test_protos_keep_bufs_standard_rules() -> None:
    """Packages, names and enums are as generators of every language expect them."""
    assert buf("lint", ROOT / "protos") == set()


@needs_packages
def test_protos_break_nothing_that_was_released() -> None:
    """A client that was built against the last release works with this one, and compiles."""
    assert breaks(ROOT / "protos") == set(), "an incompatible change is a v2: see CONTRIBUTING.md"


@needs_packages
@pytest.mark.parametrize(
    ("name", "old", "new", "rule"),
    [
        (SCORER, "  bool cached = 7;\n", "", "FIELD_NO_DELETE"),
        (SCORER, "  bool cached = 7;\n", "  reserved 7;\n", "FIELD_NO_DELETE"),
        (SCORER, "double percentile = 4;", "float percentile = 4;", "FIELD_SAME_TYPE"),
        (SCORER, "bool cached = 7;", "bool stale = 7;", "FIELD_SAME_NAME"),
        (SCORER, "string prompt = 2;", "repeated string prompt = 2;", "FIELD_SAME_CARDINALITY"),
        (SCORER, "rpc ScoreBatch(", "rpc ScoreMany(", "RPC_NO_DELETE"),
        (UPSTREAM, "(stream StreamC", "(StreamC", "RPC_SAME_SERVER_STREAMING"),
        (UPSTREAM, "REASON_TIMEOUT = 3", "REASON_LATE = 3", "ENUM_VALUE_SAME_NAME"),
        (UPSTREAM, "package pointsman.upstream.v1", "package upstream.v1", "FILE_SAME_PACKAGE"),
    ],
)
def test_a_change_that_breaks_clients_is_found(
    tmp_path: Path, name: Path, old: str, new: str, rule: str
) -> None:
    """A check that never fails guards nothing."""
    assert rule in breaks(edited(tmp_path, name, old, new))


@needs_packages
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (SCORER, "bool cached = 7;", "bool cached = 7;\n  string note = 100;"),
        (SCORER, "  rpc Score(", "  rpc Explain(ModelPair) returns (Router);\n  rpc Score("),
        (UPSTREAM, "REASON_TIMEOUT = 3;", "REASON_TIMEOUT = 3;\n  FALLBACK_REASON_NEW = 100;"),
        (SCORER, "// Many prompts", "// A lot of prompts"),
    ],
)
def test_a_change_that_breaks_nobody_is_let_through(
    tmp_path: Path, name: Path, old: str, new: str
) -> None:
    """What may change within a version: new fields, rpcs and values, and better words."""
    assert breaks(edited(tmp_path, name, old, new)) == set()


def edited(folder: Path, name: Path, old: str, new: str) -> Path:
    """Returns a copy of the released protos with one edit."""
    shutil.copytree(BASELINE, folder, dirs_exist_ok=True)
    text = (folder / name).read_text(encoding="utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder
