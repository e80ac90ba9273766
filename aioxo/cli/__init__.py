"""The command line, an extra: ``pip install 'aioxo[cli]'``.

Nothing is imported here but the standard library: `main` first sees that the extra is there. The modules, by duty:

============  =========================================================================================================
`app`         the commands: names, arguments, options, help
`command`     from a command's coroutine to a Typer command: the server's options, the event loop, the exit code
`run`         runs a coroutine; signals, closed pipes and errors become exit codes
`connection`  from options and environment to a client; finding objects by name
`parse`       sizes, parameters, filters, as a person types them
`text`        sizes, times and the server's text, as a person reads them
`render`      records as a table, JSON, NDJSON, CSV or names; `columns` says what a table shows
`progress`    the bar of a transfer
`listing`     ls, get, call
`watching`    watch
`transfer`    export, import; `stdout` is where an image goes for "-"
`simulate`    simulate
`demo`        demo: the story; `stage` is where it is told
============  =========================================================================================================
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the program with the arguments of the process and return its exit code; see `aioxo.cli.run` for the codes."""
    try:
        import rich  # noqa: F401, PLC0415 - only whether it is there
        import typer  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        if error.name not in {"rich", "typer"}:
            raise
        sys.stderr.write(
            f"aioxo: the command line needs {error.name}, which is not installed: run  pip install 'aioxo[cli]'\n"
        )
        return 2
    from .run import main as run_program  # noqa: PLC0415 - needs typer

    return run_program()
