"""The benchmarks run, small, so that they never rot; what they measure at this size means nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks import export, ndjson, notifications, report
from benchmarks.__main__ import main
from benchmarks.measure import Meter, Sample, Spread, measure, ratios, take_turns
from benchmarks.peers import CHUNK

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")


def test_ndjson() -> None:
    found = ndjson.run(rounds=1, records=21_000, lengths=(10, 30_000))
    assert [row[0] for row in found.rows] == [
        "plain aiohttp, by lines",
        "aioxo, `xo.vms.stream`",
        "aioxo, 10 records",
        "aioxo, 30,000 records",
    ]
    assert len(found.answers) == 3


def test_notifications() -> None:
    found = notifications.run(rounds=1, notifications=3_000)
    assert len(found.rows) == 3
    assert len(found.answers) == 4


def test_export_leaves_nothing_behind(tmp_path: Path) -> None:
    found = export.run(rounds=1, size=CHUNK * 1028, directory=str(tmp_path))
    assert len(found.rows) == 5
    assert len(found.answers) == 8
    assert list(tmp_path.iterdir()) == []


async def failing(meter: Meter, url: str) -> None:
    with meter:
        message = f"nothing at {url}"
        raise ValueError(message)


def test_a_subject_that_fails_fails_the_benchmark() -> None:
    with pytest.raises(RuntimeError, match="nothing at nowhere"):
        measure(failing, "nowhere")


def test_turns_alternate_and_ratios_are_within_a_round() -> None:
    order: list[str] = []

    def take(name: str, seconds: list[float]) -> Sample:
        order.append(name)
        return Sample(wall=seconds.pop(0), cpu=1.0, peak=0)

    slow, fast = [2.0, 40.0, 6.0], [1.0, 10.0, 2.0]
    ones, others = take_turns(3, lambda: take("slow", slow), lambda: take("fast", fast))
    assert order == ["slow", "fast", "fast", "slow", "slow", "fast"]
    assert ratios(ones, others, lambda sample: sample.wall) == Spread(3.0, 2.0, 4.0)
    assert Spread(3.0, 2.0, 4.0).text() == "3.00 (2.00 to 4.00)"


def test_results_are_put_between_the_marks(tmp_path: Path) -> None:
    before, marks = report.README.read_text(encoding="utf-8").split("<!-- results", 1)
    after = marks.split("<!-- end of results -->\n")[1]
    path = tmp_path / "README.md"
    path.write_text(report.README.read_text(encoding="utf-8"), encoding="utf-8")
    found = report.Report("a title", answers=[report.Answer("a question", "2", "at most 1", met=False)])
    for _ in range(2):
        report.insert(report.markdown([found]), path)
        text = path.read_text(encoding="utf-8")
        assert text.startswith(before)
        assert text.endswith(after)
        assert text.count("### a title") == 1
        assert "| a question | 2 | at most 1 | **no** |" in text


@pytest.mark.parametrize("arguments", [["nothing"], ["ndjson", "--write"], ["--quick", "--write"]])
def test_arguments_that_cannot_be(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err
