"""The JSON-RPC front door: the websocket at `/api/` and the one-shot URLs its results point to.

`framing.py` reads messages, `socket.py` holds the connections and sends, `table.py` takes a call through its checks to
its method, `schema.py` is one of them; the other modules hold methods. `methods.json`, beside this package, lists every
method of a real server with its parameters; those the simulator does not have answer `not implemented`.
"""

from __future__ import annotations
