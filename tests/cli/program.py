"""Runs the real program, as a child in a pipe or on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = [sys.executable, "-m", "aioxo"]
PATIENCE = 30.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this environment without anything that names a server or sets a look."""
    dropped = ("XOA_", "XO_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONWARNINGS": "error", "PYTHONUTF8": "1", "TERM": "xterm-256color", **(extra or {})}


def run(*arguments: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program with its output in pipes."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=environment(env),
        stdin=None if "input" in options else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )


def start(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the program with its output in pipes."""
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Terminal:
    """The program on a pseudo-terminal of its own, which is also what Ctrl-C is typed at."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None, columns: int = 100) -> None:
        self.output = ""
        self._arguments = arguments
        self._env = environment(env)
        self._columns = columns

    def __enter__(self) -> Self:
        pid, self._descriptor = pty.fork()
        if pid == 0:  # pragma: no cover - the child
            os.execve(sys.executable, [*PROGRAM, *self._arguments], self._env)
        self._pid = pid
        self._status: int | None = None
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 50, self._columns, 0, 0))
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is None:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
        os.close(self._descriptor)

    @property
    def plain(self) -> str:
        """The output without colours and cursor movements, lines ended by newlines."""
        return _ESCAPES.sub("", self.output).replace("\r\n", "\n")

    def expect(self, text: str) -> None:
        """Read until `text` was shown."""
        while text not in self.plain:
            assert self._read(), f"ended without {text!r}: {self.plain!r}"

    def type(self, keys: str) -> None:
        """Type something."""
        os.write(self._descriptor, keys.encode())

    def finish(self) -> int:
        """Read to the end and return the exit code, negative for a signal."""
        while self._read():
            pass
        _, status = os.waitpid(self._pid, 0)
        self._status = status
        return os.waitstatus_to_exitcode(status)

    def _read(self) -> bool:
        deadline = time.monotonic() + PATIENCE
        ready, _, _ = select.select([self._descriptor], [], [], deadline - time.monotonic())
        assert ready, f"nothing more came: {self.plain!r}"
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # Linux's way to say that the other side has gone
            return False
        self.output += data.decode()
        return bool(data)
