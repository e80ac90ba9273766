"""The dialogue of JSON-RPC: what a message means, and that none of them raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aioxo
from aioxo.errors import EXCERPT_LIMIT
from aioxo.wire.jsonrpc import Dialogue, Reply


def one_call() -> tuple[Dialogue, int]:
    dialogue = Dialogue()
    call_id, _ = dialogue.call("vm.set", {"id": "a"})
    return dialogue, call_id


def test_a_call_goes_out_by_name() -> None:
    call_id, message = Dialogue().call("vm.set", {"id": "a", "name_label": "\u2028é"})
    assert json.loads(message) == {
        "jsonrpc": "2.0",
        "id": call_id,
        "method": "vm.set",
        "params": {"id": "a", "name_label": "\u2028é"},
    }


def test_a_call_without_parameters() -> None:
    _, message = Dialogue().call("system.listMethods", {})
    assert json.loads(message).get("params", {}) == {}


def test_ids_are_unique() -> None:
    dialogue = Dialogue()
    assert len({dialogue.call("x", {})[0] for _ in range(100)}) == 100
    assert repr(dialogue) == "<Dialogue outstanding=100>"


@pytest.mark.parametrize("bad", [object(), 2**70, "\ud800", b"bytes"], ids=repr)
def test_what_json_cannot_say_registers_nothing(bad: object) -> None:
    dialogue = Dialogue()
    with pytest.raises(aioxo.ConfigurationError, match="x: the parameters cannot be said in JSON"):
        dialogue.call("x", {"bad": bad})
    with pytest.raises(aioxo.ConfigurationError):
        dialogue.call("\ud800", {})
    assert repr(dialogue) == "<Dialogue outstanding=0>"


def test_abandoned_calls_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioxo.wire.jsonrpc.ABANDONED_LIMIT", 3)
    dialogue, kept = one_call()
    abandoned = [dialogue.call("slow", {})[0] for _ in range(10)]
    for call_id in abandoned:
        dialogue.abandon(call_id)
    assert repr(dialogue) == "<Dialogue outstanding=4>"
    assert isinstance(dialogue.receive(json.dumps({"id": abandoned[0], "result": 1})), aioxo.ProtocolError)
    assert dialogue.receive(json.dumps({"id": abandoned[-1], "result": 1})) == Reply(abandoned[-1], 1)
    # The one that is still waited for is none the worse for it, and nothing is left to abandon afterwards.
    assert dialogue.receive(json.dumps({"id": kept, "result": 1})) == Reply(kept, 1)
    dialogue.abandon(kept)
    assert repr(dialogue) == "<Dialogue outstanding=2>"


def test_results_in_any_order() -> None:
    dialogue = Dialogue()
    first, second = dialogue.call("a", {})[0], dialogue.call("b", {})[0]
    assert dialogue.receive(json.dumps({"jsonrpc": "2.0", "id": second, "result": 2})) == Reply(second, 2)
    assert dialogue.receive(json.dumps({"jsonrpc": "2.0", "id": first, "result": None})) == Reply(first)


def test_a_reply_without_result_member_is_a_result() -> None:
    dialogue, call_id = one_call()
    assert dialogue.receive(json.dumps({"jsonrpc": "2.0", "id": call_id})) == Reply(call_id)


def test_an_error_becomes_its_class() -> None:
    dialogue, call_id = one_call()
    error = {"code": 1, "message": "no such VM a", "data": {"id": "a", "type": "VM"}}
    reply = dialogue.receive(json.dumps({"error": error, "id": call_id, "jsonrpc": "2.0"}))
    assert isinstance(reply, Reply)
    assert isinstance(reply.error, aioxo.NotFound)
    assert str(reply.error) == "vm.set: no such VM a"
    assert reply.error.data == {"id": "a", "type": "VM"}


def test_a_notification() -> None:
    dialogue, _ = one_call()
    assert dialogue.receive('{"method": "all", "params": {"type": "exit"}}') == aioxo.Notification(
        "all", {"type": "exit"}
    )
    assert dialogue.receive('{"method": "ping"}') == aioxo.Notification("ping", None)


MALFORMED = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'[{"jsonrpc": "2.0", "id": 1, "result": 1}]',
    b"\x00" * 3,
    b"\xff\xfe",
    b'"text"',
    b"1",
    b"{}",
    b'{"id": 99, "result": 1}',
    b'{"id": "1", "result": 1}',
    b'{"id": true, "result": 1}',
    b'{"id": 1.0, "result": 1}',
    b'{"id": null, "result": 1}',
    b'{"id": [1], "result": 1}',
    b'{"id": {}, "result": 1}',
    b'{"id": 1, "method": "all"}',
    b'{"method": 1}',
    b'{"method": ["all"]}',
    b"[" * 100_000,
    b"[" * 600 + rb'"\ud800"' + b"]" * 600,
]


@pytest.mark.parametrize("message", MALFORMED, ids=lambda message: repr(message[:24]))
def test_malformed_messages_are_values(message: bytes) -> None:
    dialogue, call_id = one_call()
    assert call_id == 1
    fault = dialogue.receive(message)
    assert isinstance(fault, aioxo.ProtocolError)
    assert len(str(fault)) < 2 * EXCERPT_LIMIT
    assert str(fault).isprintable()
    # The call that waits is none the worse for it.
    assert dialogue.receive('{"id": 1, "result": "ok"}') == Reply(1, "ok")


@pytest.mark.parametrize("member", [None, 1, "text", [], {}, {"code": 1}, {"message": "x"}, [1, 2]])
def test_a_malformed_error_ends_its_call(member: Any) -> None:
    dialogue, call_id = one_call()
    reply = dialogue.receive(json.dumps({"id": call_id, "error": member}))
    assert isinstance(reply, Reply)
    assert isinstance(reply.error, aioxo.ProtocolError)
    assert "vm.set" in str(reply.error)


def test_a_second_reply_to_one_call_is_told_apart() -> None:
    dialogue, call_id = one_call()
    message = json.dumps({"id": call_id, "result": 1})
    assert isinstance(dialogue.receive(message), Reply)
    assert isinstance(dialogue.receive(message), aioxo.ProtocolError)


def test_a_lone_surrogate_costs_one_character() -> None:
    dialogue, _ = one_call()
    received = dialogue.receive(rb'{"method": "all", "params": {"items": {"a": {"name_label": "x\ud800"}}}}')
    assert received == aioxo.Notification("all", {"items": {"a": {"name_label": "x\ufffd"}}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["id", "method", "params", "result", "error", "code", "message", "data"]), inner
        )
    ),
    max_leaves=12,
)


@given(
    st.binary(max_size=40)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries({"id": st.just(1), "error": JSON}).map(lambda value: json.dumps(value).encode())
)
def test_receiving_never_raises(message: bytes) -> None:
    dialogue, _ = one_call()
    received = dialogue.receive(message)
    assert isinstance(received, (Reply, aioxo.Notification, aioxo.ProtocolError))
