"""The wire contracts: generated code is what the protos say, and everything is explained."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from tests.conftest import missing

ROOT = Path(__file__).parents[2]
PROTOS = sorted((ROOT / "protos").rglob("*.proto"))
GENERATED = sorted(
    path for path in (ROOT / "pointsman").rglob("*_pb2*.py*") if path.suffix in {".py", ".pyi"}
)


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


def test_package_is_the_folder_and_enum_values_are_prefixed(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    """What buf's STANDARD rules ask, where it costs nothing to check ourselves."""
    for file in files:
        assert file.name.startswith(file.package.replace(".", "/") + "/")
        for enum in file.enum_type:
            prefix = "".join(f"_{c}" if c.isupper() else c for c in enum.name).upper().lstrip("_")
            assert all(value.name.startswith(prefix) for value in enum.value)
            assert enum.value[0].name == f"{prefix}_UNSPECIFIED"
