"""The filter language: vectors from the real implementation, JavaScript's rules one by one, and properties.

What is expected of regular expressions and coercions was taken from Node; the vectors are those of the server's parser.
"""

from __future__ import annotations

import copy
import enum
import json
import math
import pickle
import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from aioxo.errors import FilterSyntaxError
from aioxo.filters import MAX_DEPTH, F, Filter

from .filter_cases import generate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: ``server``: outcomes of the server's own implementation; the others: its and JavaScript's rules one by one.
DATA: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "data" / "filter_vectors.json").read_text(encoding="utf-8")
)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
#: Text made of what matters to the language, so that much of it parses.
queries = st.text(st.sampled_from('ab10.*-$ :?!|()<>="/\\[]{}+^éſ日😀\n\u2028\u00a0in')) | st.text()


def _name(vector: dict[str, Any]) -> str:
    return f"{vector['filter']}-{vector.get('value', '')}"


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings_in(inner)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse(text: str) -> Filter | FilterSyntaxError:
    try:
        return Filter.parse(text)
    except FilterSyntaxError as error:
        return error


def refusal(text: str) -> FilterSyntaxError:
    with pytest.raises(FilterSyntaxError) as caught:
        Filter.parse(text)
    return caught.value


# The language


@pytest.mark.parametrize("vector", DATA["server"], ids=_name)
def test_vectors(vector: dict[str, Any]) -> None:
    if "error" in vector:
        assert str(refusal(vector["filter"])) == vector["error"]
    else:
        assert Filter.parse(vector["filter"]).matches(vector["value"]) is vector["result"]


@pytest.mark.parametrize("vector", DATA["positions"], ids=_name)
def test_parse_errors_say_where_parsing_stopped(vector: dict[str, Any]) -> None:
    error = refusal(vector["filter"])
    assert str(error) == f"parse error: expected end of input at position {vector['position']}"
    assert (error.text, error.position) == (vector["filter"], vector["position"])


def test_the_message_counts_utf16_units_and_the_field_indexes_the_text() -> None:
    error = refusal('"😀" &')
    assert str(error).endswith("at position 5")
    assert error.text[error.position] == "&"


@pytest.mark.parametrize("text", [">a", "a:<.", ">=0x", ">-0x10", "(<1_0", "a:>NaN"])
def test_comparing_with_no_number_is_its_own_error(text: str) -> None:
    error = refusal(text)
    assert str(error) == "value must be a number"
    assert error.text[: error.position].endswith((">", "<", "="))


@pytest.mark.parametrize("vector", DATA["written"], ids=_name)
def test_written_canonically(vector: dict[str, Any]) -> None:
    found = Filter.parse(vector["filter"])
    assert str(found) == vector["written"]
    assert Filter.parse(vector["written"]) == found


@given(queries)
@example('"\\')
@example("/(?:/")
def test_any_text_parses_or_is_a_syntax_error(text: str) -> None:
    found = parse(text)
    if isinstance(found, Filter):
        assert Filter.parse(str(found)) == found
    else:
        assert found.text == text
        assert 0 <= found.position <= len(text)


@given(st.integers(min_value=0), values)
def test_round_trip_keeps_structure_and_meaning(seed: int, other: Any) -> None:
    for query, record in generate(seed, 10):
        found = parse(query)
        if not isinstance(found, Filter):
            continue
        again = Filter.parse(str(found))
        assert again == found
        assert hash(again) == hash(found)
        assert (~found).matches(record) is not found.matches(record)
        assert again.matches(other) is found.matches(other)


def test_generated_cases_are_deterministic_and_of_all_kinds() -> None:
    cases = list(generate(7, 500))
    assert cases == list(generate(7, 500))
    assert cases != list(generate(8, 500))
    outcomes: set[object] = set()
    for query, record in cases:
        found = parse(query)
        outcomes.add(found.matches(record) if isinstance(found, Filter) else type(found))
    assert outcomes == {True, False, FilterSyntaxError}


@pytest.mark.parametrize("opening", ["(", "|(", "!", "a:", "a:!(", "/(/ ("])
def test_deep_nesting_is_refused(opening: str) -> None:
    with pytest.raises(FilterSyntaxError):
        Filter.parse(opening * 100_000 + "a" + ")" * 100_000)


def test_nesting_up_to_the_limit_works_throughout() -> None:
    deepest = Filter.parse("!" * MAX_DEPTH + "a")
    assert deepest.matches({"x": "a"})
    assert Filter.parse(str(deepest)) == copy.deepcopy(deepest)
    with pytest.raises(FilterSyntaxError, match="nested more than"):
        Filter.parse("!" * (MAX_DEPTH + 1) + "a")
    with pytest.raises(FilterSyntaxError, match="nested more than"):
        _ = ~(deepest & Filter.parse("b"))


def test_long_chains_of_combinations_stay_flat() -> None:
    found = Filter.parse("")
    for number in range(500):
        found &= F.any(f"w{number}")
    assert str(found).count(" ") == 499
    assert Filter.parse(str(found)) == found


@pytest.mark.parametrize("piece", ["a ", '"a" ', 'a"', "(a) ", "a:b ", "!a ", "a* ", r"\/", " ", "/a/", "é", '"\\"'])
def test_parsing_time_grows_with_length_alone(piece: str) -> None:
    text = piece * (300_000 // len(piece))
    for query in (text, "/" + text, '"' + text, "(" + text):  # quadratic, each would outlast the test's timeout
        found = parse(query)
        assert isinstance(found, Filter) or found.text is query


# Matching


@pytest.mark.parametrize("vector", DATA["values"], ids=_name)
def test_matches_as_javascript_does(vector: dict[str, Any]) -> None:
    assert Filter.parse(vector["filter"]).matches(vector["value"]) is vector["result"]


@pytest.mark.parametrize(
    ("built", "value", "expected"),
    [(F.a.truthy, math.nan, False), (F.a >= math.inf, 10**400, True), (F.a.has(2**53), 2**53 + 1, True)],
)
def test_numbers_beyond_json_and_doubles(built: Filter, value: float, expected: bool) -> None:
    assert built.matches({"a": value}) is expected


@pytest.mark.parametrize("vector", DATA["coercions"], ids=str)
def test_comparisons_coerce_as_javascript_does(vector: dict[str, Any]) -> None:
    value, number = vector["value"], vector["number"] and float(vector["number"])
    for limit in (-math.inf, -1, 0, 0.5, 1, 5, 31, 1e300, math.inf):
        for field, expected in (
            (F.x > limit, number is not None and number > limit),
            (F.x >= limit, number is not None and number >= limit),
            (F.x < limit, number is not None and number < limit),
            (F.x <= limit, number is not None and number <= limit),
        ):
            assert field.matches({"x": value}) is expected, (str(field), value)
            assert field.matches({}) is False


def test_records_may_be_nested_deeper_than_pythons_stack() -> None:
    record: Any = "needle"
    numbers: Any = 5
    for _ in range(50_000):
        record = {"a": [record]}
        numbers = [numbers]
    try:
        assert F.any("needle").matches(record)
        assert not F.any("other").matches(record)
        assert (F.x >= 5).matches({"x": numbers})
        assert F.x.has(5).matches({"x": numbers})
    finally:  # freeing such a thing at once would recurse
        while isinstance(record, dict):
            record = record["a"].pop()
        while isinstance(numbers, list):
            numbers = numbers.pop()


class PowerState(enum.StrEnum):
    RUNNING = "Running"


@pytest.mark.parametrize("wrap", [MappingProxyType, lambda record: [record], lambda record: (record,)])
def test_what_looks_like_json_is_taken_for_it(wrap: Callable[[Any], Any]) -> None:
    record = wrap({"state": PowerState.RUNNING, "items": ("a", "b"), "level": enum.IntEnum("Level", "LOW").LOW})  # type: ignore[attr-defined]
    assert F.any("running").matches(record)
    assert F.any(1).matches(record)
    inner = {"x": record}
    assert F.x.has("b").matches(inner)
    assert (F.state == PowerState.RUNNING).matches({"state": PowerState.RUNNING})
    assert F["items"].length.has(2).matches({"items": ("a", "b")})


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="no set"):
        F.any("a").matches({"x": {"a"}})
    with pytest.raises(TypeError, match="no bytes"):
        (F.x > 1).matches({"x": b"1"})


# Regular expressions


@pytest.mark.parametrize("vector", DATA["expressions"], ids=_name)
def test_regular_expressions_mean_what_they_mean_in_javascript(vector: dict[str, Any]) -> None:
    parsed = Filter.parse(vector["filter"])
    assert [text for text in vector["found"] + vector["missed"] if parsed.matches({"x": text})] == vector["found"]


@pytest.mark.parametrize("vector", DATA["refused expressions"], ids=_name)
def test_what_javascript_refuses_is_refused_in_its_words(vector: dict[str, Any]) -> None:
    error = refusal("a " + vector["filter"])
    assert str(error) == f"Invalid regular expression: {vector['filter']}: {vector['reason']}"
    assert error.position == 2


@pytest.mark.parametrize("vector", DATA["unsupported expressions"], ids=_name)
def test_what_python_cannot_represent_is_refused(vector: dict[str, Any]) -> None:
    assert "cannot be evaluated here" in str(refusal(vector["filter"]))


def test_deeply_nested_groups_are_refused() -> None:
    assert "nested more than" in str(refusal("/" + "(" * 1000 + ")" * 1000 + "/"))


# The builder


@pytest.mark.parametrize(
    ("built", "query"),
    [
        (F.power_state == "Running", "power_state:/^Running$/"),
        (F.power_state != "Running", "!power_state:/^Running$/"),
        (F.name_label == "a/b.c\\\n", r"name_label:/^a\/b\.c\\\u000a$/"),
        (F.CPUs.number == 2, "CPUs:number:(2 <=2 !length?)"),
        (F.memory.size >= 8 * 2**30, "memory:size:>=8589934592"),
        (F.x < -1.5, "x:<-1.5"),
        (F.x <= math.inf, "x:<=Infinity"),
        (F.x > 1e22, "x:>1e22"),
        (F.x == True, "x?"),  # noqa: E712 - the operator is what is tested
        (F.a.b != True, "!a:b?"),  # noqa: E712 - the operator is what is tested
        (F.x == None, "x:(>=0 !length:!>Infinity)"),  # noqa: E711 - the operator is what is tested
        (F.tags.contains("prod"), "tags:/^prod$/"),
        (F.tags.has("a b"), 'tags:"a b"'),
        (F.tags.has("5"), 'tags:"5"'),
        (F.tags.has(5), "tags:5"),
        (F.name.matches("^a/b"), r"name:/^a\/b/"),
        (F.name.matches(r"a\\"), r"name:/a\x5c/"),
        (F.name.matches(re.compile("a", re.IGNORECASE)), "name:/a/i"),
        (F.name.glob("web*.x"), r"name:/^web[^]*\.x$/i"),
        (F.snapshots.length > 1, "snapshots:length:>1"),
        (F.a.exists, "a:length:!>Infinity"),
        (F["other"]["xo:backup:job"].truthy, 'other:"xo:backup:job"?'),
        (F["matches"]["any"] > 1, "matches:any:>1"),
        (F.any("word"), "word"),
        (F.any("w*d"), '"w*d"'),
        ((F.x > 1) & (F.x < 5) & ~F.y.truthy | F.any("z"), "|((x:>1 x:<5 !y?) z)"),
        (~~F.y.truthy, "y?"),
        (~Filter.parse(""), ">Infinity"),
        (Filter.parse("") & F.any("a") & Filter.parse(" "), "a"),
        (Filter.parse("") | F.any("a"), ""),
    ],
)
def test_what_the_builder_writes(built: Filter, query: str) -> None:
    assert str(built) == query
    assert Filter.parse(query) == built


@given(st.text() | st.text(st.sampled_from("\\/^$.*[](){}|+?\n\r\u2028a😀é-i")), values)
@example("a\\", "a\\")
@example("a", "a\n")
def test_text_conditions(text: str, value: Any) -> None:
    for record in ({"x": value}, {"x": text}, {"x": {"y": [text + "a", text]}}, {"x": f"{text}\n"}):
        found = list(strings_in(record["x"]))
        for built, expected in (
            (F.x == text, text in found),
            (F.x != text, text not in found),
            (F.x.contains(text), text in found),
            (F.x.has(text), any(text.lower() in each.lower() for each in found)),
            (F.any(text), any(text.lower() in each.lower() for each in found)),
            (F[text].exists, text == "x" and record["x"] is not None),
        ):
            assert built.matches(record) is expected
            assert Filter.parse(str(built)) == built


@given(st.integers(-(2**53), 2**53) | st.floats(allow_nan=False), values)
@example(0, "")
@example(0, [[0]])
@example(1, True)
@example(0, {"y": 0})
@example(5, "05")
def test_number_conditions(number: float, value: Any) -> None:
    variants: list[Any] = [value, number, str(number), [number], {"length": number}]
    for each in variants:
        record = {"x": each}
        same = is_number(each) and each == number
        # Beyond 2**53 the server's JSON parser has rounded, and so does the match.
        assume(not (is_number(each) and abs(each) > 2**53 and isinstance(each, int)))
        assert (F.x == number).matches(record) is same
        assert (F.x != number).matches(record) is not same
        if is_number(each):
            assert (F.x > number).matches(record) is (each > number)
            assert (F.x <= number).matches(record) is (each <= number)
    assert Filter.parse(str(F.x == number)) == (F.x == number)


@given(values)
@example(0)
@example("")
@example([])
@example({"length": "x"})
def test_boolean_and_null_conditions(value: Any) -> None:
    record = {"x": value}
    truthy = bool(value) or isinstance(value, list | dict)
    assert (F.x == True).matches(record) is truthy  # noqa: E712 - the operator is what is tested
    assert (F.x == False).matches(record) is not truthy  # noqa: E712 - the operator is what is tested
    assert (F.x == None).matches(record) is (value is None)  # noqa: E711 - the operator is what is tested
    assert F.x.exists.matches(record) is (value is not None)
    assert F.x.truthy.matches(record) is truthy


def test_conditions_on_a_missing_property() -> None:
    for built in (F.x == "a", F.x == 5, F.x == True, F.x == None, F.x > 0, F.x <= 0, F.x.exists, F.x.has("")):  # noqa: E711, E712 - the operators are what is tested
        assert not built.matches({"y": "a"})
        assert (~built).matches({"y": "a"})
    assert (F.x == False).matches({})  # noqa: E712 - the operator is what is tested
    assert (F.x != None).matches({})  # noqa: E711 - the operator is what is tested


@given(st.text(st.sampled_from("aB*.\n/é")), st.text(st.sampled_from("abB.\n/éÉ*"), max_size=8))
def test_glob_takes_the_whole_string_in_any_case(pattern: str, text: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL | re.IGNORECASE)
    assert F.x.glob(pattern).matches({"x": text}) is (expected is not None)


@given(st.lists(st.sampled_from([F.a > 0, F.b == "x", ~F.c.truthy, F.any("y")]), min_size=1, max_size=4), values)
def test_combinations(parts: list[Filter], value: Any) -> None:
    record = {"a": value, "b": "x", "c": [value]}
    every, some = parts[0], parts[0]
    for part in parts[1:]:
        every, some = every & part, some | part
    assert every.matches(record) is all(part.matches(record) for part in parts)
    assert some.matches(record) is any(part.matches(record) for part in parts)
    assert Filter.parse(str(every)).matches(record) is every.matches(record)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: bool(F.x == 1),
        lambda: (F.x == 1) and (F.y == 2),
        lambda: not F.x.truthy,
        lambda: 1 < F.x < 5,
        lambda: bool(F.x),
        lambda: "a" in F.tags,
        lambda: list(F.tags),
        lambda: list(F),
        lambda: (F.x == 1) | "a",  # type: ignore[operator]  # the mistake is the test
        lambda: (F.x == 1) & F.y,  # type: ignore[operator]  # the mistake is the test
        lambda: F.x > "5",  # type: ignore[operator]  # the mistake is the test
        lambda: F.x > True,
        lambda: F.x == [1],
        lambda: F.x == F.y,
        lambda: F.x.contains(5),  # type: ignore[arg-type]  # the mistake is the test
        lambda: F[0],  # type: ignore[index]  # the mistake is the test
        lambda: hash(F.x),
        lambda: F.x.matches(re.compile(b"a")),  # type: ignore[arg-type]  # the mistake is the test
        lambda: Filter.of(5),  # type: ignore[arg-type]  # the mistake is the test
    ],
)
def test_mistakes_are_type_errors(mistake: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        mistake()


@pytest.mark.parametrize("value", [math.nan, 10**400, -(10**400)])
def test_numbers_that_json_does_not_have(value: float) -> None:
    with pytest.raises(ValueError, match=r"NaN|range"):
        _ = F.x == value


@pytest.mark.parametrize("pattern", [r"\Aa", r"a\Z", "a{,2}", "[]a]", r"\\\Aa", r"\N{DIGIT ONE}"])
def test_compiled_patterns_that_javascript_reads_differently_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="means something else"):
        F.x.matches(re.compile(pattern))


def test_compiled_patterns_with_other_flags_are_refused() -> None:
    with pytest.raises(ValueError, match="IGNORECASE"):
        F.x.matches(re.compile("a", re.MULTILINE))


@pytest.mark.parametrize("pattern", ["(", "a\\", "(?i)a", "(?<=a+)b"])
def test_invalid_patterns_are_syntax_errors(pattern: str) -> None:
    with pytest.raises(FilterSyntaxError) as caught:
        F.x.matches(pattern)
    assert caught.value.text == pattern


def test_fields_too_deep_are_syntax_errors() -> None:
    field = F.a
    for _ in range(MAX_DEPTH):
        field = field.a
    with pytest.raises(FilterSyntaxError):
        _ = field > 1


# The object


def test_equality_is_structural() -> None:
    assert Filter.parse("a (b c)") == F.any("a") & F.any("b") & F.any("c")
    assert Filter.parse("a b") != Filter.parse("b a")
    assert Filter.parse("5") != Filter.parse('"5"')
    assert Filter.parse("/a/") != Filter.parse("/a/i")
    assert len({Filter.parse("a:>5"), Filter.parse(" a : >5. "), F.a > 5}) == 1
    assert (Filter.parse("a") == "a") is False


def test_filters_are_immutable_values() -> None:
    found = F.a > 1
    with pytest.raises(AttributeError):
        found._node = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        del found._node
    assert found.matches({"a": 2})
    assert pickle.loads(pickle.dumps(found)) == found == copy.deepcopy(found)
    assert repr(found) == "Filter.parse('a:>1')"
    assert repr(F.a["b c"]) == "F.a['b c']"


def test_fields_do_not_answer_what_python_asks_for() -> None:
    assert not hasattr(F, "__array__")
    assert not hasattr(F.x, "__len__")
    assert repr(F) == "F"


def test_of_takes_what_a_filter_argument_may_be() -> None:
    found = F.a > 1
    assert Filter.of(found) == found == Filter.of("a:>1")
    assert Filter.of(None) is None
    assert Filter.of(" ") is None
    assert Filter.of(Filter.parse("")) is None
    with pytest.raises(FilterSyntaxError):
        Filter.of("a:")
