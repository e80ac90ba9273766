"""The server's query language, in Python: parsed, written, built and evaluated.

One implementation for three places: sent to the server, matched against live changes, evaluated by the simulator. ::

    F.power_state == "Running"
    F.tags.contains("prod") & (F.memory.size >= 8 * 2**30)
    Filter.parse("power_state:Running |(tags:prod tags:staging)").matches(vm)

`_grammar` holds the syntax tree with its parser and writer, `_regex` turns JavaScript's regular expressions into
Python's, `_match` compiles a tree into a predicate with JavaScript's rules (`_javascript`), and `_builder` is `F`.
"""

from aioxo.filters._builder import F, Field, Fields
from aioxo.filters._filter import Filter
from aioxo.filters._grammar import MAX_DEPTH

__all__ = ["MAX_DEPTH", "F", "Field", "Fields", "Filter"]
