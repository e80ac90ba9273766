"""aioxo: an async client for Xen Orchestra.

::

    import aioxo

    async with aioxo.connect("https://xo.example.org", token="...") as xo:
        async with xo.vms.stream(filter="power_state:Running", fields=["name_label"]) as vms:
            async for vm in vms:
                print(vm["name_label"])

Everything public is here; the modules below are an order of layers, not an interface.

`Client` and `connect` are imported when they are first used: they bring aiohttp, which takes longer to import than all
the rest, and a filter, an error or the command line's help has no need of it.
"""

from typing import TYPE_CHECKING, Any

from ._version import __version__
from .downloads import ByteSink, Destination, ExportStream
from .errors import *  # noqa: F403 - the whole tree, which lists itself
from .errors import __all__ as _errors
from .feed import Changes, Notifications
from .filters import F, Filter
from .hub import Overflow
from .models import Change, Gap, MethodInfo, Notification, Progress, Record, Timeouts, Transfer
from .progress import ProgressCallback
from .resources import Collection, Disks, Machines, Pools, StorageRepositories, VirtualMachines, WritableDisks
from .rest import RecordStream
from .rpc import Connection, ConnectionState
from .tasks import Task
from .uploads import Source

if TYPE_CHECKING:
    from .client import Client, connect

__all__ = [  # noqa: PLE0604 - strings, from a list that a test holds to be complete
    "ByteSink",
    "Change",
    "Changes",
    "Client",
    "Collection",
    "Connection",
    "ConnectionState",
    "Destination",
    "Disks",
    "ExportStream",
    "F",
    "Filter",
    "Gap",
    "Machines",
    "MethodInfo",
    "Notification",
    "Notifications",
    "Overflow",
    "Pools",
    "Progress",
    "ProgressCallback",
    "Record",
    "RecordStream",
    "Source",
    "StorageRepositories",
    "Task",
    "Timeouts",
    "Transfer",
    "VirtualMachines",
    "WritableDisks",
    "__version__",
    "connect",
    *_errors,
]


def __getattr__(name: str) -> Any:
    if name in {"Client", "connect"}:
        from . import client  # noqa: PLC0415 - see the top

        globals().update(Client=client.Client, connect=client.connect)
        return globals()[name]
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
