"""The commands: names, arguments, options, help. What a command does is in the module it imports when it is called."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .command import SERVER_OPTIONS, command, make_server
from .connection import Server
from .render import ChangeFormat, Format, ResultFormat
from .transfer import Compression, Image

__all__ = ["app"]

EXIT_CODES = (
    "Exit codes: 0 done; 1 the server refused or failed; 2 something typed or set is wrong; 3 credentials refused; "
    "4 no such object, collection or method; 5 server not reached; 6 image not whole or not stored; 130 Ctrl-C; "
    "141 closed pipe; 143 terminated."
)

app = typer.Typer(
    name="aioxo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)

_OUTPUT_HELP = "Shape of the output. [default: table at a terminal, ndjson in a pipe]"

Output = Annotated[
    Format | None,
    typer.Option(
        "--output",
        "-o",
        show_default=False,
        help=f"{_OUTPUT_HELP} In csv, text like a formula gets an apostrophe before it.",
    ),
]
ResultOutput = Annotated[
    ResultFormat | None,
    typer.Option("--output", "-o", show_default=False, help=_OUTPUT_HELP),
]
ChangeOutput = Annotated[
    ChangeFormat | None,
    typer.Option("--output", "-o", show_default=False, help=_OUTPUT_HELP),
]
Query = Annotated[
    str | None,
    typer.Option(
        "--filter", "-f", metavar="QUERY", show_default=False,
        help="Only what matches, in Xen Orchestra's own language, like 'power_state:Running tags:prod'.",
    ),
]  # fmt: skip
Fields = Annotated[
    str | None,
    typer.Option(
        "--fields", metavar="NAME,…", show_default=False,
        help="Only these fields, deep ones with dots, like name_label,CPUs.number.",
    ),
]  # fmt: skip
CollectionName = Annotated[
    str, typer.Argument(metavar="COLLECTION", show_default=False, help="Such as vms; `aioxo ls` lists them.")
]


def _show_version(value: bool) -> None:
    if value:
        from aioxo import __version__  # noqa: PLC0415 - seldom needed

        typer.echo(f"aioxo {__version__}")
        raise typer.Exit


def _before(*, context: typer.Context, version: bool = False, **values: Any) -> None:  # noqa: ARG001 - Typer has acted
    """Xen Orchestra from the command line: list, watch, call, move disks and machines.

    The server and the credentials come from XOA_URL and XOA_TOKEN, or XOA_USER and XOA_PASSWORD. No server at hand?
    `aioxo demo` shows everything on a stand-in, and `aioxo simulate` starts one to try things on.
    """
    context.obj = make_server(None, values)


def _register_options() -> None:
    """Let the server's options stand before a command as well."""
    import inspect  # noqa: PLC0415 - once, here

    version = Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ]
    parameters = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        inspect.Parameter("version", inspect.Parameter.KEYWORD_ONLY, annotation=version, default=False),
        *SERVER_OPTIONS,
    ]
    _before.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    _before.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.callback()(_before)


_register_options()


@command(app, "demo")
async def demo(
    server: Server,
    seconds: Annotated[float, typer.Option("--for", min=0.1, metavar="SECONDS", help="Follow changes so long.")] = 3.0,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", show_default=False, help="Leave the exported images in this folder."),
    ] = None,
    export: Annotated[bool, typer.Option("--export", help="With --url: export the smallest disk as well.")] = False,
    write: Annotated[
        bool, typer.Option("--write", help="With --url: import a copy of it too, compare, and delete the copy.")
    ] = False,
    sr: Annotated[
        str | None, typer.Option("--sr", metavar="ID|NAME", show_default=False, help="Where to import to.")
    ] = None,
    vms: Annotated[int, typer.Option("--vms", min=1, help="Machines of the stand-in.")] = 200,
    churn: Annotated[float, typer.Option("--churn", min=0, help="Its changes per second.")] = 8.0,
    disk_size: Annotated[str, typer.Option("--disk-size", metavar="SIZE", help="Its smallest disk.")] = "128MiB",
) -> None:
    """Show what aioxo does: list, follow, export, import, compare.

    Without --url it does so on a stand-in server of its own and needs nothing. With --url, and credentials in the
    environment, it shows a real server and only reads, unless --write is given.
    """
    from . import demo as story  # noqa: PLC0415 - only when called

    script = story.Script(
        seconds=seconds, write=write, export=export, keep=keep, sr=sr, vms=vms, churn=churn, disk_size=disk_size
    )
    await story.demo(server, script)


@command(app, "simulate")
async def simulate(
    vms: Annotated[int, typer.Option("--vms", min=0, help="How many machines.")] = 50,
    churn: Annotated[float, typer.Option("--churn", min=0, help="Changes per second that happen by themselves.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Everything follows from it: same seed, same server.")] = 0,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; whoever can reach it can do everything.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 for a free one.")] = 0,
    dialect: Annotated[str, typer.Option("--dialect", metavar="2026|2023", help="Age of the server.")] = "2026",
    disk_size: Annotated[
        str, typer.Option("--disk-size", metavar="SIZE", help="Size of the smallest disk, like 64MiB.")
    ] = "64MiB",
) -> None:
    """Serve a stand-in Xen Orchestra until Ctrl-C.

    It speaks REST and the websocket, has machines, disks and tasks, and forgets everything at its end.
    """
    from .simulate import simulate as serve  # noqa: PLC0415 - heavy

    await serve(vms=vms, churn=churn, seed=seed, host=host, port=port, dialect=dialect, disk_size=disk_size, token=None)


@command(app, "ls")
async def ls(
    server: Server,
    collection: Annotated[
        str | None,
        typer.Argument(metavar="[COLLECTION]", show_default=False, help="Such as vms. [default: list the collections]"),
    ] = None,
    filter: Query = None,
    fields: Fields = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=0, metavar="N", show_default=False, help="At most so many.")
    ] = None,
    output: Output = None,
) -> None:
    """List the records of a collection, as they come.

    A table shows the usual columns, JSON all fields; --fields chooses. Without a collection, lists what there is.
    """
    from . import listing  # noqa: PLC0415 - only when called

    if collection is None:
        listing.list_collections(output)
        return
    await listing.list_records(server, collection, filter=filter, fields=fields, limit=limit, format=output)


@command(app, "get")
async def get(
    server: Server,
    collection: CollectionName,
    wanted: Annotated[list[str], typer.Argument(metavar="ID|NAME…", show_default=False, help="One or several.")],
    fields: Fields = None,
    output: Output = None,
) -> None:
    """Show records, each by its id or, if only one has it, by its name."""
    from . import listing  # noqa: PLC0415 - only when called

    await listing.get(server, collection, wanted, fields=fields, format=output)


@command(app, "watch")
async def watch(
    server: Server,
    types: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TYPE]…", show_default=False, help="Such as VM, host or SR. [default: everything]"),
    ] = None,
    filter: Query = None,
    fields: Fields = None,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0, metavar="SECONDS", show_default=False, help="End after so long.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--count", min=1, metavar="N", show_default=False, help="End after so many changes.")
    ] = None,
    output: ChangeOutput = None,
) -> None:
    """Show what happens to objects, a line for each change, until Ctrl-C.

    "enter" is an object that came (or began to match the filter), "update" one that changed, "exit" one that left. A
    "gap" says that changes may have been missed: the connection was lost and made anew.
    """
    from . import watching  # noqa: PLC0415 - only when called

    await watching.watch(server, types or [], filter=filter, fields=fields, seconds=seconds, limit=limit, format=output)


@command(app, "call")
async def call(
    server: Server,
    method: Annotated[str, typer.Argument(metavar="METHOD", show_default=False, help="Such as vm.set.")],
    parameters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]…", show_default=False,
            help="A string, true or false; NAME=json:… for any other JSON, like memory=json:4294967296.",
        ),
    ] = None,
    output: Output = None,
) -> None:  # fmt: skip
    """Call a JSON-RPC method and show its result."""
    from . import listing  # noqa: PLC0415 - only when called

    await listing.call(server, method, parameters or [], format=output)


@command(app, "export")
async def export(
    server: Server,
    collection: Annotated[
        str,
        typer.Argument(
            metavar="vms|vdis", show_default=False,
            help="What to export: vms, vm-snapshots, vm-templates, vdis or vdi-snapshots.",
        ),
    ],
    wanted: Annotated[str, typer.Argument(metavar="ID|NAME", show_default=False, help="Which one.")],
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", show_default=False,
            help="File or folder to write to; - for stdout. [default: a file here, named after it]",
        ),
    ] = None,
    image: Annotated[
        Image | None,
        typer.Option("--format", show_default=False, help="Of a disk raw or vhd, of a machine xva or ova. [default: "
                     "what FILE ends in, or vhd and xva]"),
    ] = None,
    compress: Annotated[
        Compression | None,
        typer.Option("--compress", show_default=False, help="Let the pool compress an xva."),
    ] = None,
    sparse: Annotated[bool, typer.Option("--sparse", help="Leave holes in a raw file where it is empty.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    output: ResultOutput = None,
) -> None:  # fmt: skip
    """Export a disk or a machine to a file.

    The file has its name only once it is whole and checked; whatever goes wrong before, nothing of it is left. At the
    end come its SHA-256 and what was checked.
    """
    from . import transfer  # noqa: PLC0415 - only when called

    await transfer.export(
        server, collection, wanted, file, image=image, compress=compress, sparse=sparse, force=force, format=output
    )


@command(app, "import")
async def import_(
    server: Server,
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A disk (raw, vhd) or an xva.")],
    sr: Annotated[
        str | None, typer.Option("--sr", metavar="ID|NAME", show_default=False, help="Where the disks go.")
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            "--pool", metavar="ID|NAME", show_default=False, help="Where a machine goes. [default: that of --sr]"
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name-label", metavar="NAME", show_default=False, help="Name of the disk. [default: the file's]"
        ),
    ] = None,
    description: Annotated[
        str | None, typer.Option("--description", metavar="TEXT", show_default=False, help="Description of the disk.")
    ] = None,
    image: Annotated[
        Image | None,
        typer.Option("--format", show_default=False, help="What FILE is. [default: what it starts with]"),
    ] = None,
    output: ResultOutput = None,
) -> None:
    """Import a file as a new disk on an SR, or an xva as a new machine in a pool; show the new id."""
    from . import transfer  # noqa: PLC0415 - only when called

    await transfer.import_file(
        server, file, sr=sr, pool=pool, name=name, description=description, image=image, format=output
    )
