"""Validates the parameters of a call and words the problems as the validator of a real server (ajv) does.

Schemas are those of `methods.json`: a map of parameters, each with `type`, `optional`, `default`, `enum`, `items`,
`properties` and limits. A parameter is required unless it is optional or has a default; others are refused unless there
is a `*` among the parameters. Strings are not empty unless the schema says how long or of which form they are. Nothing
is converted, and null is a type of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]
Problem = dict[str, Any]


def problems(properties: Schema, value: Any, *, path: str = "", schema_path: str = "#") -> list[Problem]:
    """Return everything that is wrong with an object of these `properties`; an empty list when it is right."""
    return list(_object(properties, value, path, schema_path, additional=None))


def with_defaults(properties: Schema, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with the defaults of those that are missing."""
    defaults = {name: schema["default"] for name, schema in properties.items() if "default" in schema}
    return defaults | dict(params)


def _problem(path: str, schema_path: str, keyword: str, params: Mapping[str, Any], message: str) -> Problem:
    return {
        "instancePath": path,
        "schemaPath": f"{schema_path}/{keyword}",
        "keyword": keyword,
        "params": dict(params),
        "message": message,
    }


def _object(
    properties: Schema, value: Mapping[str, Any], path: str, schema_path: str, *, additional: Schema | bool | None
) -> Iterator[Problem]:
    others: Schema | bool = properties.get("*", additional if additional is not None else not properties)
    for name, schema in properties.items():
        if name != "*" and name not in value and not schema.get("optional") and "default" not in schema:
            message = f"must have required property '{name}'"
            yield _problem(path, schema_path, "required", {"missingProperty": name}, message)
    for name, each in value.items():
        if name in properties and name != "*":
            continue
        if others is False:
            message = "must NOT have additional properties"
            yield _problem(path, schema_path, "additionalProperties", {"additionalProperty": name}, message)
        elif isinstance(others, Mapping):
            yield from _value(others, each, f"{path}/{_escaped(name)}", f"{schema_path}/additionalProperties")
    for name, schema in properties.items():
        if name in value and name != "*":
            yield from _value(schema, value[name], f"{path}/{_escaped(name)}", f"{schema_path}/properties/{name}")


def _value(schema: Schema, value: Any, path: str, schema_path: str) -> Iterator[Problem]:
    types = _types(schema)
    if types and not any(_IS[each](value) for each in types if each in _IS):
        shown = schema["type"]
        words = ",".join(shown) if isinstance(shown, list) else shown
        yield _problem(path, schema_path, "type", {"type": shown}, f"must be {words}")
        return
    if "enum" in schema and value not in schema["enum"]:
        message = "must be equal to one of the allowed values"
        yield _problem(path, schema_path, "enum", {"allowedValues": schema["enum"]}, message)
    if isinstance(value, str) and "enum" not in schema:
        yield from _string(schema, value, path, schema_path)
    elif isinstance(value, list):
        yield from _array(schema, value, path, schema_path)
    elif isinstance(value, dict):
        properties = schema.get("properties", {})
        if properties or "additionalProperties" in schema:
            additional = schema.get("additionalProperties")
            yield from _object(properties, value, path, schema_path, additional=additional)
    elif _is_number(value) and "minimum" in schema and value < schema["minimum"]:
        limit = {"comparison": ">=", "limit": schema["minimum"]}
        yield _problem(path, schema_path, "minimum", limit, f"must be >= {schema['minimum']}")


def _string(schema: Schema, value: str, path: str, schema_path: str) -> Iterator[Problem]:
    shortest = schema.get("minLength", 0 if "pattern" in schema or "format" in schema else 1)
    if len(value) < shortest:
        message = f"must NOT have fewer than {shortest} characters"
        yield _problem(path, schema_path, "minLength", {"limit": shortest}, message)
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        message = f"must NOT have more than {schema['maxLength']} characters"
        yield _problem(path, schema_path, "maxLength", {"limit": schema["maxLength"]}, message)
    if "pattern" in schema and not re.search(schema["pattern"], value):
        message = f'must match pattern "{schema["pattern"]}"'
        yield _problem(path, schema_path, "pattern", {"pattern": schema["pattern"]}, message)


def _array(schema: Schema, value: Sequence[Any], path: str, schema_path: str) -> Iterator[Problem]:
    fewest = schema.get("minItems", 0)
    if len(value) < fewest:
        message = f"must NOT have fewer than {fewest} items"
        yield _problem(path, schema_path, "minItems", {"limit": fewest}, message)
    if schema.get("uniqueItems"):
        for later in range(1, len(value)):
            earlier = next((index for index in range(later) if value[index] == value[later]), None)
            if earlier is not None:
                message = f"must NOT have duplicate items (items ## {earlier} and {later} are identical)"
                yield _problem(path, schema_path, "uniqueItems", {"i": later, "j": earlier}, message)
                break
    if "items" in schema:
        for index, each in enumerate(value):
            yield from _value(schema["items"], each, f"{path}/{index}", f"{schema_path}/items")


def _types(schema: Schema) -> list[str]:
    declared = schema.get("type", [])
    types = [declared] if isinstance(declared, str) else list(declared)
    return [*types, "null"] if types and schema.get("nullable") else types


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and value == int(value)


_IS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": _is_integer,
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "null": lambda value: value is None,
}


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
