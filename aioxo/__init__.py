"""aioxo: an async client for Xen Orchestra.

::

    import aioxo

    async with aioxo.connect("https://xo.example.org", token="...") as xo:
        async with xo.vms.stream(filter="power_state:Running", fields=["name_label"]) as vms:
            async for vm in vms:
                print(vm["name_label"])

Everything public is here; the modules below are an order of layers, not an interface.
"""

from ._version import __version__
from .client import Client, connect
from .errors import *  # noqa: F403 - the whole tree, which lists itself
from .errors import __all__ as _errors
from .feed import Changes, Notifications
from .filters import F, Filter
from .models import Change, Gap, MethodInfo, Notification, Progress, Record, Timeouts, Transfer
from .resources import Collection
from .rest import RecordStream
from .rpc import Connection, ConnectionState
from .tasks import Task
from .transfers import ExportStream

__all__ = [  # noqa: PLE0604 - strings, from a list that a test holds to be complete
    "Change",
    "Changes",
    "Client",
    "Collection",
    "Connection",
    "ConnectionState",
    "ExportStream",
    "F",
    "Filter",
    "Gap",
    "MethodInfo",
    "Notification",
    "Notifications",
    "Progress",
    "Record",
    "RecordStream",
    "Task",
    "Timeouts",
    "Transfer",
    "__version__",
    "connect",
    *_errors,
]
