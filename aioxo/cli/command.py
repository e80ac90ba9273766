"""From a command's coroutine to a Typer command.

A command is ``async def name(server: Server, argument, …, option=…)``, with Typer's own annotations. `command`
registers it under a plain function that Typer can call: the one parameter `server` becomes the options that say where
the server is, which are thereby the same everywhere; the coroutine runs in an event loop; and what it raises becomes an
exit code.
The same options can stand before the command, as ``aioxo --url … ls``; the nearer one wins.
"""

import inspect
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from .connection import Server
from .parse import check_text
from .run import run

__all__ = ["SERVER_OPTIONS", "command"]

Body = Callable[..., Coroutine[Any, Any, int | None]]
F = TypeVar("F", bound=Body)

_PANEL = "Server"


def _option(*names: str, **how: Any) -> Any:
    return typer.Option(*names, rich_help_panel=_PANEL, show_default=False, **how)


def _server_options(
    *,
    url: Annotated[
        str | None, _option("--url", metavar="URL", help="Address of the server. [default: $XOA_URL]")
    ] = None,
    token: Annotated[
        str | None,
        _option("--token", metavar="-", help="Only '-': read the token from standard input. [default: $XOA_TOKEN]"),
    ] = None,
    insecure: Annotated[bool, _option("--insecure", help="Accept any certificate. [default: $XOA_INSECURE]")] = False,
    ca_file: Annotated[
        Path | None, _option("--ca-file", metavar="PEM", help="Authorities to trust instead of the system's.")
    ] = None,
    fingerprint: Annotated[
        str | None, _option("--fingerprint", metavar="SHA256", help="The one certificate to accept.")
    ] = None,
    debug: Annotated[bool, _option("--debug", help="Show tracebacks and the library's log on stderr.")] = False,
) -> Server:
    return Server(url, token, insecure or None, ca_file, fingerprint, debug)


#: The options that make a `Server`, as parameters for a signature.
SERVER_OPTIONS = tuple(inspect.signature(_server_options).parameters.values())
_DEBUG = SERVER_OPTIONS[-1]
_CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def make_server(before: object, values: dict[str, Any]) -> Server:
    """Take the server's options out of `values`; what was not given there is as it was given before the command."""
    given = {parameter.name: values.pop(parameter.name, None) for parameter in SERVER_OPTIONS}
    if isinstance(before, Server):
        given = {name: value or getattr(before, name) for name, value in given.items()}
    return _server_options(**given)


def command(app: typer.Typer, name: str, **options: Any) -> Callable[[F], F]:
    """Register a coroutine function as the command `name`; see the module. `options` go to Typer."""

    def register(body: F) -> F:
        own = list(inspect.signature(body, eval_str=True).parameters.values())
        takes_server = bool(own) and own[0].annotation is Server
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own[takes_server:]]
        parameters = [_CONTEXT, *own, *(SERVER_OPTIONS if takes_server else (_DEBUG,))]

        def invoke(*, context: typer.Context, **values: Any) -> None:
            server = make_server(context.obj, values)
            arguments = (server,) if takes_server else ()

            def start() -> Coroutine[Any, Any, int | None]:
                check_text((server.url, server.fingerprint, *values.values()))
                return body(*arguments, **values)

            raise typer.Exit(run(start, debug=server.debug))

        invoke.__doc__ = body.__doc__
        # Typer reads both of these.
        invoke.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        invoke.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name, **options)(invoke)
        return body

    return register
