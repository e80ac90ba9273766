"""Runs the program and its coroutines; signals, closed pipes and errors become exit codes.

=====  ================================================================================================================
code   when
=====  ================================================================================================================
0      done
1      the server refused or failed, a task failed, or something else went wrong
2      an option, an argument, a filter or a setting is missing or wrong; nothing was sent
3      the credentials were refused, or may not do this
4      there is no such object, collection or method
5      the server cannot be reached, went silent, or is not Xen Orchestra
6      a disk image is not whole, could not be stored, or differs
130    interrupted by Ctrl-C
141    whoever read the output has gone (``| head``)
143    terminated
=====  ================================================================================================================

An error is one sentence or two on stderr; ``--debug`` adds the traceback and the library's log. The first Ctrl-C or
SIGTERM cancels the coroutine, which then cleans up after itself: a half-written file is removed, a token given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final

from aioxo import errors

from .text import caret, safe

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["complain", "exit_code", "main", "run"]

INTERRUPTED: Final = 130
CLOSED_PIPE: Final = 141
TERMINATED: Final = 143

_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (errors.ConfigurationError, 2),
    (errors.AuthenticationError, 3),
    (errors.Unauthorized, 3),
    (errors.NotFound, 4),
    (errors.MethodNotFound, 4),
    (errors.ConnectionLost, 5),
    (errors.Timeout, 5),
    (errors.NotXenOrchestra, 5),
    (errors.TransferError, 6),
)


def main() -> int:
    """Run the program; typer ends it with `SystemExit`, whose code is returned."""
    from .app import app  # noqa: PLC0415 - so that an interrupt while importing is quiet too

    _replace_missing_streams()
    if sys.stdout is None:
        _say("aioxo: standard output is closed; > /dev/null silences it")
        return exit_code(errors.ConfigurationError())
    _make_streams_lenient()
    try:
        app(prog_name="aioxo")
    except SystemExit as end:
        # Help goes to a closed pipe as well.
        return _flushed(end.code if isinstance(end.code, int) else 0 if end.code is None else 1)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _pipe_closed()
    except OSError as error:
        # Help goes to a full disk as well.
        complain(error)
        return _flushed(1)
    return _flushed(0)


def run(start: Callable[[], Coroutine[Any, Any, int | None]], *, debug: bool) -> int:
    """Run the coroutine that `start` makes and return the exit code: what it returns, or what its error stands for."""
    if debug:
        _log_to_stderr()
    try:
        with asyncio.Runner() as runner:
            return runner.run(_until_terminated(start())) or 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except _Terminated:
        return TERMINATED
    except BrokenPipeError:
        return _pipe_closed()
    except errors.XOError as error:
        complain(error, debug=debug)
        return exit_code(error)
    except OSError as error:
        complain(error, debug=debug)
        return 1
    except RecursionError as error:
        _trace(error, debug=debug)
        _say("aioxo: the server sent something that is nested too deep to be shown")
        return 1
    except Exception as error:  # noqa: BLE001 - the outermost frame: a mistake of ours, said as one
        complain(error, debug=debug, ours=True)
        return 1


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error, see the table above."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


def complain(error: BaseException, *, debug: bool = False, ours: bool = False) -> None:
    """Say an error on stderr, harmlessly: its text may quote the server."""
    _trace(error, debug=debug)
    text = safe(error) or type(error).__name__
    if isinstance(error, OSError) and not isinstance(error, errors.XOError) and error.strerror:
        # Files have names, and the library says its own of a connection; what is left is where we write to.
        text = f"{safe(error.filename or 'standard output')}: {safe(error.strerror)}"
    if ours:
        text = f"this is a mistake in aioxo: {type(error).__name__}: {text}; run it again with --debug and report it"
    _say(f"aioxo: {text}")
    if isinstance(error, errors.FilterSyntaxError):
        _say(caret(error.text, error.position))


def _trace(error: BaseException, *, debug: bool) -> None:
    if debug:
        for line in "".join(traceback.format_exception(error)).splitlines():
            _say(safe(line))


def _say(line: str) -> None:
    # Nobody may be listening there either, and there is no other place to say so.
    with contextlib.suppress(OSError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


class _Terminated(Exception):
    """SIGTERM came."""


async def _until_terminated(coroutine: Coroutine[Any, Any, int | None]) -> int | None:
    """Let SIGTERM cancel as Ctrl-C does, so that what was begun is cleaned up."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    with contextlib.suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await coroutine
    except asyncio.CancelledError:
        if terminated:
            raise _Terminated from None
        raise


class _SafeFormatter(logging.Formatter):
    """A log line may quote the server."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(safe, super().format(record).splitlines()))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_SafeFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("aioxo")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def _replace_missing_streams() -> None:
    """Have something to read from and to complain to; Python has None for what was closed before it began.

    Without them the next socket would get their descriptors.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - for as long as the program runs
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - the same


def _make_streams_lenient() -> None:
    """Let a terminal that is not UTF-8 show an escape for what it cannot draw, rather than end the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _pipe_closed()
    except OSError as error:
        if not code:
            complain(error)
        _pipe_closed()
        return code or 1
    return code


def _pipe_closed() -> int:
    """Keep the interpreter from complaining at its end about what it could not flush."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    return CLOSED_PIPE
