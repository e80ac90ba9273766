"""Identifiers from a seeded random source, so that a seed gives them all: uuids, references, MAC and IP addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

Object = dict[str, Any]

_VARIANT = 1 << 63
_VERSION = 4 << 76


def new_uuid(rng: random.Random) -> str:
    """Return a random (version 4) uuid in its lower-case text form."""
    bits = rng.getrandbits(128) & ~(0xC << 60) & ~(0xF << 76) | _VARIANT | _VERSION
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_ref(rng: random.Random) -> str:
    """Return a XAPI reference: `OpaqueRef:` and a uuid."""
    return "OpaqueRef:" + new_uuid(rng)


def new_mac(rng: random.Random) -> str:
    """Return a locally administered unicast MAC address."""
    return mac_of(rng.getrandbits(40))


def mac_of(number: int) -> str:
    """Return the locally administered MAC address with `number` (40 bits) in its last five bytes."""
    return "02:" + number.to_bytes(5, "big").hex(":")


def addresses_of(mac: str) -> dict[str, str]:
    """Return the addresses a guest reports for its first interface; they follow from `mac`, so restarts keep them."""
    number = int(mac.replace(":", ""), 16)
    high, middle, low = number >> 16 & 0xFF, number >> 8 & 0xFF, number & 0xFF
    return {
        "0/ipv4/0": f"10.{high}.{middle}.{low}",
        "0/ipv6/0": f"fe80::{number >> 16 & 0xFFFF:x}:{number & 0xFFFF:x}",
    }


def identity(rng: random.Random, pool: str, uuid: str | None = None) -> Object:
    """Return the five fields that end every object of pool `pool`: id, uuid, $pool, $poolId and _xapiRef."""
    uuid = uuid or new_uuid(rng)
    return {"id": uuid, "uuid": uuid, "$pool": pool, "$poolId": pool, "_xapiRef": new_ref(rng)}


def typed_identity(rng: random.Random, kind: str, pool: str | None, uuid: str | None = None) -> Object:
    """Return the tail of the types that carry `type` after their id; `pool` None means that the object is the pool."""
    uuid = uuid or new_uuid(rng)
    pool = pool or uuid
    return {"id": uuid, "type": kind, "uuid": uuid, "$pool": pool, "$poolId": pool, "_xapiRef": new_ref(rng)}
