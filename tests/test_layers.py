"""The layers hold: import-linter's contracts, as pyproject.toml states them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_contracts_are_kept() -> None:
    # In a process of its own: it sets up logging for itself, which would switch off that of the tests to come.
    command = "import sys; from importlinter import cli; sys.exit(cli.lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=PYPROJECT.parent, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    contracts = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    assert f"{len(contracts)} kept, 0 broken" in done.stdout


def test_every_module_of_the_client_has_its_layer() -> None:
    contracts = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layered = {module.strip() for layer in contracts[0]["layers"] for module in layer.split(":")}
    package = PYPROJECT.parent / "aioxo"
    modules = {
        f"aioxo.{path.stem}"
        for path in package.iterdir()
        if (path.suffix == ".py" and not path.stem.startswith("_")) or (path / "__init__.py").is_file()
    }
    assert modules - layered == {"aioxo.simulator"}
