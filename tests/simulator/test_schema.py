"""The words in which wrong parameters are told, keyword by keyword."""

from __future__ import annotations

from typing import Any

import pytest

from aioxo.simulator.rpc.schema import problems, with_defaults

STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "value", "keyword", "params", "message"),
    [
        (STRING, "", "minLength", {"limit": 1}, "must NOT have fewer than 1 characters"),
        (STRING, None, "type", {"type": "string"}, "must be string"),
        (STRING | {"maxLength": 2}, "abc", "maxLength", {"limit": 2}, "must NOT have more than 2 characters"),
        (STRING | {"pattern": "^a"}, "b", "pattern", {"pattern": "^a"}, 'must match pattern "^a"'),
        ({"type": "integer"}, 1.5, "type", {"type": "integer"}, "must be integer"),
        ({"type": "number"}, True, "type", {"type": "number"}, "must be number"),
        ({"type": ["integer", "string"]}, [], "type", {"type": ["integer", "string"]}, "must be integer,string"),
        ({"type": "number", "minimum": 1}, 0, "minimum", {"comparison": ">=", "limit": 1}, "must be >= 1"),
        ({"type": "array", "minItems": 2}, [1], "minItems", {"limit": 2}, "must NOT have fewer than 2 items"),
        (
            {"type": "array", "uniqueItems": True},
            ["a", "b", "a"],
            "uniqueItems",
            {"i": 2, "j": 0},
            "must NOT have duplicate items (items ## 0 and 2 are identical)",
        ),
        (
            {"enum": ["a", ""]},
            "b",
            "enum",
            {"allowedValues": ["a", ""]},
            "must be equal to one of the allowed values",
        ),
    ],
)
def test_each_keyword(schema: dict[str, Any], value: Any, keyword: str, params: Any, message: str) -> None:
    assert problems({"p/1": schema}, {"p/1": value}) == [
        {
            "instancePath": "/p~11",
            "schemaPath": f"#/properties/p/1/{keyword}",
            "keyword": keyword,
            "params": params,
            "message": message,
        }
    ]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (STRING | {"minLength": 0}, ""),
        (STRING | {"pattern": "^$"}, ""),
        ({"type": "integer"}, 2.0),
        ({"type": ["string", "null"]}, None),
        ({"type": "string", "nullable": True}, None),
        ({"enum": ["a", ""]}, ""),
        ({}, {"anything": [1, None]}),
        ({"type": "object"}, {"any": 1}),
        ({"type": "array", "items": {"type": "integer"}}, []),
        ({"type": "boolean"}, False),
    ],
)
def test_what_is_right(schema: dict[str, Any], value: Any) -> None:
    assert problems({"p": schema}, {"p": value}) == []


def test_paths_lead_into_the_depth() -> None:
    schema = {
        "a": {"type": "array", "items": {"type": "object", "properties": {"b": STRING}}},
        "m": {"type": "object", "additionalProperties": {"type": "integer"}},
        "w": {"type": "object", "properties": {"*": {"type": "boolean"}}},
    }
    value = {"a": [{"b": "x"}, {"b": 1, "c": 2}, {}], "m": {"x": 1, "y": "z"}, "w": {"k": 1}}
    assert [(each["instancePath"], each["schemaPath"]) for each in problems(schema, value)] == [
        ("/a/1", "#/properties/a/items/additionalProperties"),
        ("/a/1/b", "#/properties/a/items/properties/b/type"),
        ("/a/2", "#/properties/a/items/required"),
        ("/m/y", "#/properties/m/additionalProperties/type"),
        ("/w/k", "#/properties/w/additionalProperties/type"),
    ]


def test_a_wildcard_lets_others_in_and_none_keeps_them_out() -> None:
    assert problems({"a": STRING, "*": {}}, {"a": "x", "b": 1}) == []
    assert [each["keyword"] for each in problems({"a": STRING}, {"a": "x", "b": 1})] == ["additionalProperties"]
    assert problems({}, {"anything": 1}) == []


def test_defaults_stand_in() -> None:
    schema = {"a": {"type": "integer", "default": 3}, "b": {"type": "integer", "optional": True}}
    assert problems(schema, {}) == []
    assert with_defaults(schema, {}) == {"a": 3}
    assert with_defaults(schema, {"a": 1, "b": 2}) == {"a": 1, "b": 2}
