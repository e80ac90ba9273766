"""Users, groups and authentication tokens, and the rules of signing in.

Passwords and tokens are compared plainly: this is a stand-in. What is as in the real server is what a client can see:
who gets in, how long a token lives, that a client id gives the same token again, and that a second try within two
seconds of a failed one is an error whatever the password.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aioxo.simulator.failures import AlreadyExists, Failure, InvalidCredentials, NoSuchObject
from aioxo.simulator.inventory import new_uuid

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from aioxo.simulator.clock import Clock

THROTTLE = 2.0
MINUTE = 60_000
DAY = 1440 * MINUTE
YEAR = 365.25 * DAY
DEFAULT_VALIDITY = 30 * DAY
MAXIMUM_VALIDITY = YEAR / 2
MAXIMUM_ADDRESSES = 10

_UNITS = {
    "ms": 1, "msec": 1, "msecs": 1, "millisecond": 1, "milliseconds": 1,
    "s": 1000, "sec": 1000, "secs": 1000, "second": 1000, "seconds": 1000,
    "m": MINUTE, "min": MINUTE, "mins": MINUTE, "minute": MINUTE, "minutes": MINUTE,
    "h": 60 * MINUTE, "hr": 60 * MINUTE, "hrs": 60 * MINUTE, "hour": 60 * MINUTE, "hours": 60 * MINUTE,
    "d": DAY, "day": DAY, "days": DAY, "w": 7 * DAY, "week": 7 * DAY, "weeks": 7 * DAY,
    "y": YEAR, "yr": YEAR, "yrs": YEAR, "year": YEAR, "years": YEAR,
}  # fmt: skip
_DURATION = re.compile(r"(-?(?:\d+)?\.?\d+) *([a-z]*)", re.IGNORECASE)


def parse_duration(text: str | float) -> float:
    """Return a duration in milliseconds: a number as it is, or a text such as `1 hour` or `30d`.

    Raises `Failure` when the text is none.
    """
    if not isinstance(text, str):
        return text
    matched = _DURATION.fullmatch(text)
    unit = _UNITS.get((matched[2] or "ms").lower()) if matched else None
    if matched is None or unit is None:
        raise Failure(f"not a valid duration: {text}")
    return float(matched[1]) * unit


@dataclass
class User:
    """Someone who may sign in. `permission` is "admin" or "none"."""

    id: str
    email: str
    password: str
    permission: str = "none"
    groups: list[str] = field(default_factory=list)
    preferences: dict[str, Any] = field(default_factory=dict)

    @property
    def administrator(self) -> bool:
        """Whether the user may do everything; all others may do next to nothing."""
        return self.permission == "admin"

    def rest_record(self) -> dict[str, Any]:
        """Return the user as REST shows it."""
        return {
            "email": self.email,
            "permission": self.permission,
            "pw_hash": "***obfuscated***",
            "groups": list(self.groups),
            "preferences": self.preferences,
            "id": self.id,
            "name": self.email,
        }

    def rpc_record(self) -> dict[str, Any]:
        """Return the user as JSON-RPC shows it."""
        return {
            "id": self.id,
            "email": self.email,
            "groups": list(self.groups),
            "permission": self.permission,
            "preferences": self.preferences,
        }


@dataclass
class Token:
    """An authentication token; `id` is the secret itself. Times are in milliseconds."""

    id: str
    user_id: str
    created_at: int
    expiration: int
    description: str | None = None
    client_id: str | None = None
    last_uses: dict[str, dict[str, int]] = field(default_factory=dict)

    def record(self, *, new: bool = False) -> dict[str, Any]:
        """Return the token as both doors show it; one just made has its members in another order."""
        head: dict[str, Any] = {} if self.client_id is None else {"client": {"id": self.client_id}}
        head["created_at"] = self.created_at
        if self.description is not None:
            head["description"] = self.description
        if new:
            return head | {"id": self.id, "user_id": self.user_id, "expiration": self.expiration}
        uses = {"last_uses": self.last_uses} if self.last_uses else {}
        return head | {"user_id": self.user_id, "expiration": self.expiration} | uses | {"id": self.id}


class Accounts:
    """All users, groups and tokens.

    Attributes:
        users: by id.
        groups: records by id: `{id, name, users}`.
        tokens: by secret.
        on_user_deleted: called with the id of a user who is gone.
    """

    def __init__(self, rng: random.Random, clock: Clock) -> None:
        self._rng = rng
        self._clock = clock
        self._failed_at: dict[str, float] = {}
        self.users: dict[str, User] = {}
        self.groups: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, Token] = {}
        self.on_user_deleted: Callable[[str], None] = lambda _: None

    # --- signing in

    def by_password(self, name: str, password: str) -> User:
        """Return the user of this name and password.

        Raises:
            InvalidCredentials: there is none.
            Failure: the password is empty, or a try for this name failed less than two seconds ago.
        """
        now = self._clock.time()
        failed_at = self._failed_at.get(name)
        if failed_at is not None and now < failed_at + THROTTLE:
            raise Failure("too fast authentication tries")
        if not password:
            raise Failure("empty password")
        user = self.named(name)
        if user is None or user.password != password:
            self._failed_at[name] = now
            raise InvalidCredentials
        self._failed_at.pop(name, None)
        return user

    def by_token(self, secret: str, address: str) -> tuple[User, Token]:
        """Return the owner of this token and the token, noting its use from `address`; else `InvalidCredentials`."""
        token = self.tokens.get(secret)
        if token is None or token.expiration <= self._clock.milliseconds():
            raise InvalidCredentials
        user = self.users.get(token.user_id)
        if user is None:
            raise InvalidCredentials
        token.last_uses.pop(address, None)
        token.last_uses[address] = {"timestamp": self._clock.milliseconds()}
        while len(token.last_uses) > MAXIMUM_ADDRESSES:
            del token.last_uses[next(iter(token.last_uses))]
        return user, token

    # --- users

    def named(self, name: str) -> User | None:
        """Return the user of this name (email), or None."""
        return next((user for user in self.users.values() if user.email == name), None)

    def user(self, user_id: str) -> User:
        """Return the user with this id; `NoSuchObject` when there is none."""
        found = self.users.get(user_id)
        if found is None:
            raise NoSuchObject(user_id, "user")
        return found

    def add_user(self, name: str, password: str, permission: str = "none") -> User:
        """Add a user; `AlreadyExists` when the name is taken."""
        taken = self.named(name)
        if taken is not None:
            raise AlreadyExists(taken.id, "user")
        user = User(new_uuid(self._rng), name, password, permission)
        self.users[user.id] = user
        return user

    def delete_user(self, user_id: str) -> None:
        """Delete a user with all tokens and memberships; `NoSuchObject` when there is none."""
        user = self.user(user_id)
        for secret in [token.id for token in self.tokens.values() if token.user_id == user_id]:
            del self.tokens[secret]
        for group in user.groups:
            self._set_members(group, [member for member in self.groups[group]["users"] if member != user_id])
        del self.users[user_id]
        self.on_user_deleted(user_id)

    # --- groups

    def group(self, group_id: str) -> dict[str, Any]:
        """Return the group with this id; `NoSuchObject` when there is none."""
        found = self.groups.get(group_id)
        if found is None:
            raise NoSuchObject(group_id, "group")
        return found

    def add_group(self, name: str) -> dict[str, Any]:
        """Add an empty group; `AlreadyExists` when the name is taken."""
        for group in self.groups.values():
            if group["name"] == name:
                raise AlreadyExists(group["id"], "group")
        group_id = new_uuid(self._rng)
        self.groups[group_id] = {"id": group_id, "name": name, "users": [], "aclRoleIds": []}
        return self.groups[group_id]

    def rename_group(self, group_id: str, name: str) -> None:
        """Rename a group; `NoSuchObject` when there is none."""
        self.groups[group_id] = self.group(group_id) | {"name": name}

    def delete_group(self, group_id: str) -> None:
        """Delete a group; its users remain. `NoSuchObject` when there is none."""
        for member in self.group(group_id)["users"]:
            self.users[member].groups.remove(group_id)
        del self.groups[group_id]

    def join(self, user_id: str, group_id: str) -> None:
        """Put a user into a group; being in it already is fine."""
        user, group = self.user(user_id), self.group(group_id)
        if group_id not in user.groups:
            user.groups.append(group_id)
            self._set_members(group_id, [*group["users"], user_id])

    def leave(self, user_id: str, group_id: str) -> None:
        """Take a user out of a group; not being in it is fine."""
        user, group = self.user(user_id), self.group(group_id)
        if group_id in user.groups:
            user.groups.remove(group_id)
            self._set_members(group_id, [member for member in group["users"] if member != user_id])

    def _set_members(self, group_id: str, members: list[str]) -> None:
        self.groups[group_id] = self.groups[group_id] | {"users": members}

    # --- tokens

    def create_token(
        self,
        user: User,
        *,
        description: str | None = None,
        expires_in: str | float | None = None,
        client_id: str | None = None,
        secret: str | None = None,
    ) -> tuple[Token, bool]:
        """Return a token of `user` and whether it is new: a live one of the same client id is extended instead.

        `expires_in` is in milliseconds or a text like `1 hour`; None is 30 days. `Failure` when it is out of range.
        """
        validity = DEFAULT_VALIDITY if expires_in is None else parse_duration(expires_in)
        if validity < MINUTE:
            raise Failure(f"invalid expiresIn duration: {expires_in}")
        if validity > MAXIMUM_VALIDITY:
            raise Failure(f"too high expiresIn duration: {expires_in}")
        now = self._clock.milliseconds()
        expiration = now + int(validity)
        for token in self.tokens_of(user.id) if client_id is not None else ():
            if token.client_id == client_id:
                token.expiration = expiration
                token.description = description
                return token, False
        secret = secret or base64.urlsafe_b64encode(self._rng.randbytes(32)).rstrip(b"=").decode()
        token = Token(secret, user.id, now, expiration, description, client_id)
        self.tokens[secret] = token
        return token, True

    def tokens_of(self, user_id: str) -> list[Token]:
        """Return the tokens of a user that have not expired."""
        now = self._clock.milliseconds()
        return [token for token in self.tokens.values() if token.user_id == user_id and token.expiration > now]

    def delete_tokens(self, secrets: list[str], *, owner: str | None = None) -> None:
        """Delete these tokens, only those of `owner` when given; unknown ones are passed over."""
        for secret in secrets:
            token = self.tokens.get(secret)
            if token is not None and owner in (None, token.user_id):
                del self.tokens[secret]
