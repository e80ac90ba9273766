"""Every code block of the README and the docs is run against a simulator, in the order in which a reader meets them.

``python`` blocks are programs of their own, ``console`` blocks are commands typed at a prompt. The two commands that
set everything up (``sh`` blocks of the README) are run by .ci/run; here they are held to what it expects.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .simulated import background_simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=fence)\s*$", re.DOTALL | re.MULTILINE
)
#: Languages that are shown and not run.
SHOWN = {"", "text", "json", "toml"}
#: Runs until it is interrupted; tests/cli starts and stops it.
ENDLESS = ("aioxo simulate",)


def blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match["language"].strip(), match["code"]


def runnable() -> list[object]:
    return [
        pytest.param(language, code, id=f"{page.relative_to(ROOT)}:{line}")
        for page in PAGES
        for line, language, code in blocks(page)
        if language in {"python", "console"}
    ]


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with background_simulator(vms=30, churn=20, disk_size=2 * 2**20) as simulator:
        yield {
            **{name: value for name, value in os.environ.items() if not name.startswith(("XOA_", "XO_"))},
            "XOA_URL": simulator.url,
            "XOA_TOKEN": simulator.token,
            "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"],
            "PYTHONWARNINGS": "error",
            "COLUMNS": "100",
        }


@pytest.mark.parametrize(("language", "code"), runnable())
def test_block_runs(language: str, code: str, environment: dict[str, str], tmp_path: Path) -> None:
    if language == "python":
        commands = [[sys.executable, "-c", code]]
    else:
        typed = [line.removeprefix("$ ") for line in code.splitlines() if line.startswith("$ ")]
        assert typed, "a console block without a prompt"
        commands = [shlex.split(line) for line in typed if not line.startswith(ENDLESS)]
    for command in commands:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_every_block_is_of_a_known_kind() -> None:
    for page in PAGES:
        for line, language, _ in blocks(page):
            known = language in SHOWN | {"python", "console"} or language.startswith("{")
            assert known or (page.name == "README.md" and language == "sh"), f"{page}:{line}: {language}"


def test_the_readme_has_the_two_commands_that_ci_runs() -> None:
    commands = [code.strip() for _, language, code in blocks(ROOT / "README.md") if language == "sh"]
    assert len(commands) == 2
    demo, tests = commands
    assert demo.endswith("aioxo demo")
    assert tests.endswith("-m pytest")
    for command in commands:
        assert "\n" not in command
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'readme_command "aioxo demo"' in script
    assert 'readme_command "-m pytest"' in script
