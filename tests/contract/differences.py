"""What the simulator is known to do in another way than the vendor's code: tests that fail there, and only there.

The failures are strict: once the simulator is right, its entry makes the test fail until the entry is gone.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Difference(NamedTuple):
    """One test against the simulator of today; `of` is a part of its parameters' id, empty for all."""

    test: str
    of: str
    reason: str


DIFFERENCES: Final = (
    Difference(
        "test_paths_are_not_case_sensitive_and_may_end_in_a_slash", "", "hrefs repeat the path as it was asked for"
    ),
    Difference("test_an_unknown_record", "alarms-message", "an unknown alarm is 'no such message'"),
    Difference("test_an_unknown_record", "backup-jobs-job", "an unknown backup job is 'no such job'"),
    Difference("test_an_unknown_record", "servers-xenServer", "an unknown server is 'no such xenServer'"),
    Difference("test_a_guest_may_do_nothing", "/vdi-snapshots/", "the privilege is `export`"),
    Difference("test_a_guest_makes_no_network", "", "two privileges are missing, not one"),
    Difference("test_a_guest_may_ask_for_nothing", "", "no privilege is needed where nothing is asked for"),
    Difference("test_what_is_for_administrators", "/restore/logs/x", "not implemented, though guests get 403"),
    Difference("test_what_is_for_administrators", "/backup/logs/x", "not implemented, though guests get 403"),
    Difference("test_a_body_of_the_wrong_shape", "speed", "the whole body is at fault where its type has no name"),
    Difference("test_a_body_that_lacks_something", "", "a type that is joined from others is at fault as a whole"),
    Difference("test_query_and_body_are_told_together", "", "only the query is told"),
    Difference("test_an_object_that_has_no_members", "", "preferences may hold nothing"),
    Difference("test_what_a_handler_refuses", "", "any snapshot that is not the machine's is 422"),
    Difference("test_a_task_that_a_handler_refuses", "", "any snapshot that is not the machine's is refused so"),
    Difference("test_a_forbidden_operation", "", "other words and another operation"),
    Difference("test_tokens_of_somebody_else", "", "other words and another operation"),
    Difference("test_an_incorrect_state", "", "not implemented"),
)


def known_difference(test: str, parameters: str) -> str | None:
    """Return the reason why this test fails, None when it must not."""
    if not parameters.startswith("simulator-2026"):
        return None
    return next((each.reason for each in DIFFERENCES if each.test == test and each.of in parameters), None)
