"""Checks the dashboards against the types that Grafana publishes: needs Node.js, npm and network.

    python -m deploy.grafana.check_schema

Installs `@grafana/schema` and `typescript` into a temporary folder and has the compiler compare
every dashboard, and every panel's options and field settings, with their types. Exits 1 with the
compiler's words where something does not fit. Not among the tests, because it downloads.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deploy.grafana.make_dashboards import files

_PACKAGES = ("@grafana/schema@13.2.3", "typescript@5.9.3")
_RAW = "./node_modules/@grafana/schema/dist/types/raw"
_PANELS = {"timeseries": "TimeSeries", "stat": "Stat", "heatmap": "Heatmap"}
_COMPILER = (
    *("--noEmit", "--strict", "--skipLibCheck", "--target", "es2020"),
    *("--module", "esnext", "--moduleResolution", "bundler"),
)
_PLUGIN_FIELDS = ("target", "titleFormat", "tagKeys")
"""Of an annotation: read by the Prometheus data source, which has published no type for them."""
# JSON has strings where the types have enums.
_PLAIN = """
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null ? T :
  { [K in keyof T]: Plain<T[K]> };
"""


def source() -> Iterator[str]:
    """Yields TypeScript that compiles exactly if the dashboards fit."""
    yield f"import type {{ Dashboard }} from '{_RAW}/dashboard/x/types.gen';"
    for kind, name in _PANELS.items():
        yield f"import type * as {name} from '{_RAW}/composable/{kind}/panelcfg/x/types.gen';"
    yield _PLAIN
    for _, text in files():
        made = json.loads(text)
        name = made["uid"].replace("-", "_")
        for annotation in made["annotations"]["list"]:
            for field in _PLUGIN_FIELDS:
                del annotation[field]
        yield f"const {name}: Plain<Dashboard> = {json.dumps(made, indent=1)};"
        for panel in made["panels"]:
            if panel["type"] in _PANELS:
                of, number = _PANELS[panel["type"]], panel["id"]
                options = json.dumps(panel["options"])
                yield f"const {name}_{number}: Plain<Partial<{of}.Options>> = {options};"
                # A stat has no field settings of its own.
                if custom := panel["fieldConfig"]["defaults"]["custom"]:
                    fields = json.dumps(custom)
                    yield f"const {name}_{number}f: Plain<Partial<{of}.FieldConfig>> = {fields};"
    yield "export {};"


def main() -> int:
    """Installs, compiles, and returns the compiler's exit status."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        print("npm and node are needed: install Node.js 18 or newer", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        install = [npm, "install", "--silent", "--no-audit", "--no-fund", *_PACKAGES]
        subprocess.run(install, cwd=folder, check=True)
        (Path(folder) / "dashboards.ts").write_text("\n".join(source()), encoding="utf-8")
        compiler = Path(folder) / "node_modules" / "typescript" / "bin" / "tsc"
        checked = subprocess.run(
            [node, str(compiler), *_COMPILER, "dashboards.ts"], cwd=folder, check=False
        )
    print("the dashboards fit Grafana's types" if checked.returncode == 0 else "they do not fit")
    return checked.returncode


if __name__ == "__main__":
    sys.exit(main())
