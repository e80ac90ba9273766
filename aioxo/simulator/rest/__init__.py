"""The REST front door: `/rest/v0`.

`routes.py` says what a route is and finds the one for a request; `door.py` takes a request through the checks, in the
order of a real server, to the route's handler; `answers.py` and `listing.py` make what goes out. The other modules hold
handlers and their tables of routes, which `table.py` puts together.
"""

from __future__ import annotations
