"""The objects of a simulated Xen Orchestra: what they look like, and a generator for any number of them.

An object is a plain `dict` with the fields, in the order, that a server gives them; which fields are absent depends on
the state (a halted VM has no guest fields). Makers (`make_vm`, `make_vdi`, …) return one complete object each and link
it to ids they are given; they do not touch the other end of a link. `generate` makes a whole consistent inventory, in
which each link has its other end. The functions of `inventory.edits` change a table of objects so that each keeps it.

Objects are replaced, never mutated: parts of one may be shared with another.
"""

from __future__ import annotations

from aioxo.simulator.inventory.generator import Inventory, generate
from aioxo.simulator.inventory.infrastructure import (
    make_host,
    make_message,
    make_network,
    make_pbd,
    make_pif,
    make_pool,
    make_sm,
    make_sr,
    make_task,
)
from aioxo.simulator.inventory.machines import (
    GUESTS,
    Guest,
    make_controller,
    make_snapshot,
    make_template,
    make_vbd,
    make_vdi,
    make_vdi_snapshot,
    make_vif,
    make_vm,
    vm_in_state,
)
from aioxo.simulator.inventory.names import Object, identity, new_ref, new_uuid

__all__ = [
    "GUESTS",
    "Guest",
    "Inventory",
    "Object",
    "generate",
    "identity",
    "make_controller",
    "make_host",
    "make_message",
    "make_network",
    "make_pbd",
    "make_pif",
    "make_pool",
    "make_sm",
    "make_snapshot",
    "make_sr",
    "make_task",
    "make_template",
    "make_vbd",
    "make_vdi",
    "make_vdi_snapshot",
    "make_vif",
    "make_vm",
    "new_ref",
    "new_uuid",
    "vm_in_state",
]
