"""``python -m benchmarks [NAME ...]``: run the benchmarks and print what they found."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from . import export, ndjson, notifications
from .report import Report, insert, markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_GIBI = 2**30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments name; return 1 when a target was missed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare aioxo with plain aiohttp.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="ndjson, notifications or export; all when left out")
    parser.add_argument("--quick", action="store_true", help="smaller and less often; tells whether it works, no more")
    parser.add_argument("--directory", help="where export writes; needs room for 4 GiB")
    parser.add_argument("--write", action="store_true", help="put the results into benchmarks/README.md")
    options = parser.parse_args(arguments)
    runs: dict[str, Callable[[], Report]] = {
        "ndjson": (lambda: ndjson.run(rounds=2, records=20_000, lengths=(2_000, 20_000)))
        if options.quick
        else ndjson.run,
        "notifications": (
            (lambda: notifications.run(rounds=2, notifications=5_000)) if options.quick else notifications.run
        ),
        "export": (
            lambda: export.run(
                directory=options.directory, **({"rounds": 1, "size": _GIBI // 4} if options.quick else {})
            )
        ),
    }
    if unknown := set(options.names) - runs.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(runs)}")
    if options.write and (options.names or options.quick):
        parser.error("--write is for a whole run: without names, without --quick")
    reports = []
    for name in options.names or runs:
        started = time.monotonic()
        reports.append(runs[name]())
        print(f"{name}: took {time.monotonic() - started:.0f} s", file=sys.stderr)
    text = markdown(reports)
    print(text)
    if options.write:
        insert(text)
    return 0 if all(answer.met for report in reports for answer in report.answers) else 1


if __name__ == "__main__":
    sys.exit(main())
