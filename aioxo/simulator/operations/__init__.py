"""What a pool does when asked: the effects of power actions, snapshots, clones, edits and disks on the store.

`Hypervisor` paces and announces a XAPI call; the modules beside it hold the effects. An effect is synchronous and
leaves every link with its other end, so nobody ever sees half of one.
"""

from __future__ import annotations
