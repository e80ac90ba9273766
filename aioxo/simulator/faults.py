"""Switches with which a test makes the simulator misbehave, each as a real server or pool has been seen to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from aioxo.simulator.failures import XapiFailure

ExportFault = Literal["stall", "short", "reset"]


@dataclass
class Faults:
    """All off by default; change the fields at any time.

    Attributes:
        export_fault: what happens to an export once `export_fault_at` bytes of it have gone out: "stall" sends nothing
            more and keeps the connection, "short" ends the answer as if it were whole, "reset" cuts the connection.
        export_fault_at: that number of bytes, of the image and not of any encoding around it.
        slow_sign_in: seconds a sign-in takes.
        ws_close_on_call: a JSON-RPC method at whose call the websocket is cut, unanswered.
        ws_silent_on_call: a JSON-RPC method that is never answered.
        xapi_errors: XAPI method, such as "VM.start", to the code and parameters it fails with.
    """

    export_fault: ExportFault | None = None
    export_fault_at: int = 0
    slow_sign_in: float = 0.0
    ws_close_on_call: str | None = None
    ws_silent_on_call: str | None = None
    xapi_errors: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _held: dict[str, asyncio.Event] = field(default_factory=dict, init=False, repr=False)

    def fail(self, method: str, code: str, *params: str) -> None:
        """Have the XAPI call `method` fail from now on, such as `fail("VDI.create", "SR_FULL", "1", "2")`."""
        self.xapi_errors[method] = (code, *params)

    def hold(self, method: str) -> asyncio.Event:
        """Have the XAPI call `method` take until the returned event is set; later calls then pass."""
        return self._held.setdefault(method, asyncio.Event())

    async def pass_through(self, method: str) -> None:
        """Wait while `method` is held, then raise the `XapiFailure` that it is to fail with, if any."""
        held = self._held.get(method)
        if held is not None:
            await held.wait()
            self._held.pop(method, None)
        self.check(method)

    def check(self, method: str, *params: str) -> None:
        """Raise the `XapiFailure` that `method` is to fail with, if any; `params` are noted as those of the call."""
        error = self.xapi_errors.get(method)
        if error is not None:
            failure = XapiFailure(*error)
            failure.call = {"duration": 0, "method": method, "params": ["* session id *", *params]}
            raise failure
