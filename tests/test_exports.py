"""What is public is listed, and what is listed is there."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types
from typing import Any

import pytest

import aioxo
from aioxo import errors

#: How to make one of each error that needs more than a sentence.
FIELDS: dict[str, dict[str, Any]] = {
    "ChecksumMismatch": {"expected": "aa", "actual": "bb"},
    "ConnectionLost": {"sent": True},
    "CorruptImage": {"check": "length"},
    "DestinationError": {"path": "disk.raw"},
    "FilterSyntaxError": {"text": "a:", "position": 2},
    "InvalidRecord": {"line_number": 3, "line": b"{"},
    "SourceMismatch": {"declared": 2, "read": 1},
    "TaskFailed": {"task": {"id": "t"}},
    "Timeout": {"limit": "read", "seconds": 1.0},
    "Truncated": {"received": 1, "expected": 2},
}


def test_all_is_sorted_unique_and_there() -> None:
    own = [name for name in aioxo.__all__ if name not in errors.__all__]
    assert own == sorted(own)
    assert len(set(aioxo.__all__)) == len(aioxo.__all__)
    for name in aioxo.__all__:
        assert getattr(aioxo, name) is not None


def test_every_public_name_is_listed() -> None:
    found = {
        name
        for name in dir(aioxo)
        if not name.startswith("_") and not isinstance(getattr(aioxo, name), types.ModuleType)
    }
    assert found - {"Any", "TYPE_CHECKING"} == set(aioxo.__all__) - {"__version__"}


def test_what_is_not_there_is_missed() -> None:
    assert not hasattr(aioxo, "disconnect")


def test_every_public_name_is_documented() -> None:
    for name in aioxo.__all__:
        value = getattr(aioxo, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert inspect.getdoc(value), name


def test_every_error_class_is_listed() -> None:
    classes = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert classes == set(errors.__all__)
    assert classes <= set(aioxo.__all__)


def test_no_error_class_hides_elsewhere() -> None:
    for module in pkgutil.walk_packages(aioxo.__path__, "aioxo."):
        if module.name.startswith(("aioxo.simulator", "aioxo.cli")) or "._" in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if name.startswith("_"):
                continue  # does not leave its module
            if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == module.name:
                # A private one is for aiohttp's eyes and never reaches a caller.
                assert value.__module__ == "aioxo.errors" or name.startswith("_"), name


def test_the_picture_of_the_tree_names_every_class() -> None:
    assert errors.__doc__ is not None
    for name in errors.__all__:
        assert name in errors.__doc__, name


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_can_be_made_and_shows_its_facts(name: str) -> None:
    kind = getattr(aioxo, name)
    assert issubclass(kind, aioxo.XOError)
    fields = FIELDS.get(name, {})
    if name == "Lagged":
        error = aioxo.Lagged(missed=3, buffer=2)
        fields = {"missed": 3}
    else:
        error = kind("what happened", **fields)
    for field, value in fields.items():
        if field != "line":
            assert getattr(error, field) == value
    assert str(error)
    if isinstance(error, aioxo.CannotConnect):
        assert error.sent is False
    if isinstance(error, aioxo.ApiError):
        assert (error.code, error.status, error.data, error.params) == (None, None, None, ())


def test_modules_list_what_they_define() -> None:
    for module in pkgutil.walk_packages(aioxo.__path__, "aioxo."):
        if module.name.startswith(("aioxo.simulator", "aioxo.cli")):
            continue
        found = importlib.import_module(module.name)
        for name in getattr(found, "__all__", ()):
            assert hasattr(found, name), f"{module.name}.{name}"


def test_the_version_is_a_release_number() -> None:
    from packaging.version import Version

    assert str(Version(aioxo.__version__)) == aioxo.__version__


def test_typed_marker_is_shipped() -> None:
    from importlib.resources import files

    assert (files("aioxo") / "py.typed").is_file()
