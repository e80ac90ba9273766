"""The methods: which there are, who may call them, and the checks a call goes through.

The order of the checks decides what a call that is wrong in two ways is told: unknown method, permission, shape of the
parameters, the objects they name, rights on those objects.
"""

from __future__ import annotations

import functools
import importlib.resources
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from aioxo.simulator.failures import InvalidParameters, MethodNotFound, NotEnoughPermissions, NotImplementedHere
from aioxo.simulator.rpc import schema

if TYPE_CHECKING:
    from aioxo.simulator.accounts import User
    from aioxo.simulator.rest.images import Exporter
    from aioxo.simulator.rpc.socket import Connection, RpcDoor
    from aioxo.simulator.state import State
    from aioxo.simulator.store import Object

Params = dict[str, Any]
Method = Callable[["Context"], Any]


@dataclass(frozen=True)
class Encoded:
    """A result that is encoded already."""

    json: bytes


@dataclass
class Context:
    """A call on its way to its method.

    Attributes:
        user: who is signed in, None when nobody is.
        params: checked, with defaults.
        objects: for each parameter that names an object, that object.
    """

    state: State
    door: RpcDoor
    connection: Connection
    exporter: Exporter
    user: User | None
    params: Params
    objects: dict[str, Object] = field(default_factory=dict)

    @property
    def caller(self) -> User:
        """Who is signed in, in a method that needs somebody."""
        if self.user is None:
            raise NotEnoughPermissions
        return self.user


@functools.cache
def known_methods() -> dict[str, dict[str, Any]]:
    """Return what a real server's methods look like, by name."""
    text = importlib.resources.files("aioxo.simulator").joinpath("methods.json").read_bytes()
    methods: dict[str, dict[str, Any]] = orjson.loads(text)
    return methods


def public_info(name: str) -> dict[str, Any]:
    """Return what `system.getMethodsInfo` says of a method."""
    info = known_methods()[name]
    return {key: info[key] for key in ("params", "permission") if key in info}


class Methods:
    """The methods the simulator carries out; each is a function of the `Context`, async or not.

    What it returns is the result; None stands for nothing and is sent as true.
    """

    def __init__(self) -> None:
        self._methods: dict[str, Method] = {}

    def method(self, name: str) -> Callable[[Method], Method]:
        """Register a function as the method `name`, which a real server must have."""
        if name not in known_methods():
            raise ValueError(f"there is no method {name!r}")

        def register(function: Method) -> Method:
            self._methods[name] = function
            return function

        return register

    def __contains__(self, name: str) -> bool:
        return name in self._methods

    async def call(self, name: str, context: Context) -> Any:
        """Check a call and carry it out; raises a `Failure`."""
        info = known_methods().get(name)
        if info is None:
            raise MethodNotFound(name)
        _check_permission(info, context.user)
        context.params = _check_params(name, info, context.params)
        _resolve(info, context)
        function = self._methods.get(name)
        if function is None:
            raise NotImplementedHere
        result = function(context)
        if inspect.isawaitable(result):
            awaitable: Awaitable[Any] = result
            result = await awaitable
        return True if result is None else result


def _check_permission(info: dict[str, Any], user: User | None) -> None:
    permission = info.get("permission", "")
    if permission is None:
        return
    needed = permission or None
    if user is None or (needed is not None and not user.administrator):
        raise NotEnoughPermissions(needed)


def _check_params(name: str, info: dict[str, Any], params: Params) -> Params:
    known = info["params"]
    if not known or not info.get("validated", True):
        return params
    namespace = name.partition(".")[0]
    if "id" in known and namespace not in known and namespace in params and "id" not in params:
        params = {"id" if key == namespace else key: value for key, value in params.items()}
    given = {}
    for key, value in params.items():
        # A parameter marked with `?` is dropped, not refused, where it is unknown.
        plain = key.removesuffix("?")
        if plain in known or not key.endswith("?"):
            given[plain if key.endswith("?") else key] = value
    given.pop("_log", None)
    found = schema.problems(known, given)
    if found:
        raise InvalidParameters(data={"errors": found})
    return schema.with_defaults(known, given)


def _resolve(info: dict[str, Any], context: Context) -> None:
    for name, (kinds, permission) in info.get("resolve", {}).items():
        key = context.params.get(name)
        if not isinstance(key, str):
            continue
        found = context.state.store.find(key, kinds)
        context.objects[name] = found
        if permission is not None and (context.user is None or not context.user.administrator):
            raise NotEnoughPermissions(permission, {"id": found["id"], "type": found["type"]})
