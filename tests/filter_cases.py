"""A seeded generator of pairs (query, record) for the filter language; the same seed gives the same pairs.

Half of what a query looks for is taken from its record, so that about as many pairs match as do not. Some queries are
damaged afterwards, for errors and their positions count too. Names that every JavaScript object inherits
(``toString``) do not occur: only own keys are properties here. Nor do mappings with a number under ``length``, which
JavaScript libraries take for lists.

Run as a script it writes the pairs as NDJSON, one ``{"query": ..., "record": ...}`` a line, for another
implementation of the language to be compared with: ``python tests/filter_cases.py --seed 1 --count 1000``.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["generate"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


KEYS = (*_words("a b tags power_state CPUs number length xo:backup:job 0 1 01 é 日本"), "a b", "")
STRINGS = (
    *_words("a Running running halted web-01 192.168.1.1 32 132 0x10 1e2 -5 Infinity 5.0 true null"),
    *_words("a/b a\\b a\\ a.b a*b (a) _x$ aab abab ÀÉ àé Straße STRASSE İ \u0131 \u017f \u212a ΑΣ ας 日本 😀 a😀b"),
    *("", " 5 ", "\u00a0", "foo\nbar", "foo\n", "a\u2028b", "a\rb", 'say "x"', "a b"),
)
NUMBERS = (0, 1, 2, 5, 16, 32, 100, -5, 1.5, -0.0, 1e21, 1e-7, 2**53, 2**53 + 1, 2**70, 1447698432)
NUMBER_WORDS = _words("0 1 5 -5 32 1.5 .5 5. 0x10 0b101 0o17 1e2 1E2 Infinity -0 00")
WORDS = _words("a running RUN NaN 0x 1e - . $ _x$ web é É ß ẞ \u017f k K \u212a ΑΣ İ i")
SPACES = ("", "", "", " ", " ", "  ", "\t", "\n", "\u00a0", "\ufeff", "\u2028")
DAMAGE = '()|!<>=:?"/*\\ \n&,@+#ai5é日😀\u180e'
RAW = frozenset("0123456789_-.$abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
RAW_LETTERS = "éÉ\u017f\u212a\u03c3ß"
REGEX_ATOMS = (
    *_words(r"a b Run . \d \w \W \s \S [a-f] [^a] [] [^] [\d.] [\w-] \. \/ \\ \n \x61 \u0061 \u{61} \cJ \0 \b \B [\b]"),
    *_words(r"(a) (?:b|) (?=a) (?!b) (?<=a) (?<!a|bb) (?<n>a|b) ] } { $ ^ - \- é É K ß [À-ÿ] 😀 [😀]"),
    *("\u017f", "\u03c3", "\u212a"),  # long s, sigma and the kelvin sign fold unlike in Python
)
QUANTIFIERS = ("", "", "", "", *_words("* + ? *? +? {2} {0,2} {1,} {,2} {1,2}?"))


class _Generator:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.keys: list[str] = []
        self.texts: list[str] = []

    def record(self, depth: int = 0) -> dict[str, Any]:
        size = self.random.randint(0, 4)
        record = {self.random.choice(KEYS): self.value(depth + 1) for _ in range(size)}
        if isinstance(record.get("length"), int | float):
            record["length"] = "2"
        return record

    def value(self, depth: int) -> Any:
        kind = self.random.random()
        if depth < 4 and kind < 0.12:
            return self.record(depth)
        if depth < 4 and kind < 0.27:
            return [self.value(depth + 1) for _ in range(self.random.choice((0, 1, 1, 2, 3)))]
        if kind < 0.65:
            return self.random.choice(STRINGS)
        return self.random.choice((*NUMBERS, None, True, False))

    def look_at(self, value: Any) -> None:
        """Remember what there is to be looked for."""
        if isinstance(value, dict):
            self.keys += value
            for item in value.values():
                self.look_at(item)
        elif isinstance(value, list):
            for item in value:
                self.look_at(item)
        elif isinstance(value, str):
            self.texts.append(value)

    def space(self) -> str:
        return self.random.choice(SPACES)

    def quote(self, text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def name(self) -> str:
        pool: tuple[str, ...] | list[str] = self.keys if self.keys and self.random.random() < 0.7 else (*KEYS, "length")
        name = self.random.choice(pool)
        return name if name and RAW.issuperset(name) and self.random.random() < 0.9 else self.quote(name)

    def text(self) -> str:
        if self.texts and self.random.random() < 0.6:
            text = self.random.choice(self.texts)
            start, end = sorted((self.random.randint(0, len(text)), self.random.randint(0, len(text))))
            text = text[start:end] if self.random.random() < 0.5 else text
            return self.random.choice((text, text.upper(), text.lower()))
        return self.random.choice((*WORDS, *STRINGS))

    def word(self) -> str:
        kind = self.random.random()
        if kind < 0.2:
            return self.random.choice(NUMBER_WORDS)
        text = self.text()
        if kind < 0.4:
            pieces = "".join(character for character in text if character in RAW or character in RAW_LETTERS)
            cut = self.random.randint(0, len(pieces))
            return f"{pieces[:cut]}*{pieces[cut:]}"
        if kind < 0.6:
            return self.regex(text)
        return text if text and RAW.issuperset(text) and self.random.random() < 0.8 else self.quote(text)

    def regex(self, text: str) -> str:
        flag = self.random.choice(("", "i"))
        if self.random.random() < 0.3:
            source = "".join(f"\\{each}" if each in "\\^$.*+?()[]{}|/" else each for each in text)
            return f"/{self.random.choice(('', '^'))}{source}{self.random.choice(('', '$'))}/{flag}"
        count = self.random.randint(0, 3)
        atoms = (self.random.choice(REGEX_ATOMS) + self.random.choice(QUANTIFIERS) for _ in range(count))
        source = self.random.choice(("", "", "|")).join(atoms)
        if "(" in source and self.random.random() < 0.3:
            source += self.random.choice((r"\1", r"\k<n>", r"\2"))
        return f"/{source}/{flag}"

    def term(self, depth: int = 0) -> str:
        kind = self.random.random()
        if depth < 4:
            if kind < 0.35:
                return f"{self.name()}{self.space()}:{self.space()}{self.term(depth + 1)}"
            if kind < 0.43:
                return f"!{self.space()}{self.term(depth + 1)}"
            if kind < 0.55:
                bar = "|" + self.space() if self.random.random() < 0.6 else ""
                return f"{bar}({self.space()}{self.terms(depth + 1)})"
        if kind < 0.65:
            return f"{self.name()}?"
        if kind < 0.75:
            return self.random.choice((">", ">=", "<", "<=")) + self.random.choice(NUMBER_WORDS)
        return self.word()

    def terms(self, depth: int) -> str:
        count = self.random.choice((1, 1, 2, 2, 3))
        return "".join(self.term(depth) + self.space() for _ in range(count))

    def query(self) -> str:
        query = self.space() + self.terms(0)
        if self.random.random() < 0.15:
            for _ in range(self.random.choice((1, 1, 2))):
                at = self.random.randint(0, len(query))
                inserted = self.random.choice((*DAMAGE, ""))
                query = query[:at] + inserted + query[at + self.random.randint(0, 1) :]
        return query

    def case(self) -> tuple[str, dict[str, Any]]:
        record = self.record()
        self.keys, self.texts = [], []
        self.look_at(record)
        return self.query(), record


def generate(seed: int, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `count` pairs of a query, not always a valid one, and a record."""
    generator = _Generator(seed)
    for _ in range(count):
        yield generator.case()


def main() -> None:
    """Write pairs to the standard output as NDJSON."""
    parser = argparse.ArgumentParser(description="Write pairs of a filter and a record as NDJSON.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    for query, record in generate(options.seed, options.count):
        sys.stdout.write(json.dumps({"query": query, "record": record}) + "\n")


if __name__ == "__main__":
    main()
