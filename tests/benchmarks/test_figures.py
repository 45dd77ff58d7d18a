"""What the suite makes of its turns: medians, ratios round by round, tables, and their place in a page."""

import pytest

from benchmarks import figures, page
from benchmarks.tables import TOPICS, TWINS, overridden
from benchmarks.turns import Failed, fastest, take_turns
from kcnn.errors import InputError

OURS = [{"wall": wall, "cpu": 2 * wall, "peak": 100.0} for wall in (1.0, 2.0, 4.0)]
THEIRS = [{"wall": wall, "cpu": 2.0, "peak": 300.0} for wall in (2.0, 3.0, 4.0)]


class Told:
    """A side that answers with the seconds it was given, and ends with the last."""

    def __init__(self, *walls: float) -> None:
        self.walls, self.ended = list(walls), False

    def turn(self, steps: int) -> dict[str, float]:
        if not self.walls:
            raise Failed("no turn is left")
        return {"wall": self.walls.pop(0), "cpu": 1.0, "peak": 1.0}

    def end(self) -> None:
        self.ended = True


def rows() -> list[dict]:
    table = figures.summary({"kcnn": OURS, "keras": THEIRS}, "kcnn")
    return [{"case": "net, batch 16", "side": side, "way": "", "ceiling": False} | row for side, row in table.items()]


def test_ratios_are_taken_round_by_round() -> None:
    ours, keras = rows()
    assert ours["wall"] == {"median": 2.0, "low": 1.5, "high": 3.0}
    assert "ratio" not in ours
    assert keras["ratio"]["wall"] == {"median": 1.5, "low": 1.25, "high": 1.75}
    assert keras["ratio"]["peak"]["median"] == 3.0


def test_totals_name_the_worst_case() -> None:
    slow = {"side": "keras", "case": "slow", "ratio": {"wall": {"median": 6.0}}}
    (total,) = figures.totals([*rows(), slow, slow | {"ceiling": True, "case": "none"}], "wall")
    assert total["mean"] == pytest.approx(3.0)
    assert (total["lowest"], total["highest"]) == ((1.5, "net, batch 16"), (6.0, "slow"))


def test_the_fastest_way_goes_on_and_the_others_end() -> None:
    sides = {"slow": Told(9, 3), "fast": Told(9, 2), "broken": Told(), "slower": Told(9, 4)}
    name, side, told = fastest({name: lambda side=side: side for name, side in sides.items()}, steps=1)
    assert (name, side) == ("fast", sides["fast"])
    assert told == {"slow": 3, "fast": 2, "broken": "no turn is left", "slower": 4}
    assert [side.ended for side in sides.values()] == [True, False, True, True]


def test_a_side_that_fails_on_the_way_leaves_the_rest() -> None:
    turns, failed = take_turns({"kcnn": Told(1, 2), "keras": Told(1)}, rounds=2, steps=1)
    assert [turn["wall"] for turn in turns["kcnn"]] == [1, 2]
    assert (list(turns), failed) == (["kcnn"], {"keras": "no turn is left"})


def test_a_page_gets_the_table_between_its_markers(tmp_path) -> None:
    found = {"rows": rows(), "failed": ["net: timm: No module named 'timm'"], "figure": "peak"}
    machine = {"processor": "A", "cores": 2, "load": 0.04, "versions": {"keras": "3"}}
    result = {"date": "2026-11-26", "machine": machine, "rounds": 3, "topics": {"memory": found}}
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- memory: how -->\nold\n<!-- end of memory -->\nafter\n", encoding="utf-8")
    page.write(path, "memory", result)
    page.write(path, "memory", result)  # a second time in place of the first
    text = path.read_text(encoding="utf-8")
    assert text.startswith(
        "before\n<!-- memory: how -->\n\n2026-11-26, A, 2 cores, load 0.0 at the start, keras 3; medians of 3 rounds.\n"
    )
    assert text.count("| net, batch 16 | keras |") == 1
    assert "3.00 in the geometric mean" in text
    assert "not measured: net: timm: No module named 'timm'" in text
    assert "old" not in text
    with pytest.raises(InputError, match="no lines '<!-- train"):
        page.write(path, "train", result | {"topics": {"train": found}})


def test_every_topic_has_a_place_in_the_page() -> None:
    from pathlib import Path

    text = Path(__file__, "../../../docs/performance.md").resolve().read_text(encoding="utf-8")
    assert [what for what in TOPICS if f"<!-- {what}: " not in text or f"<!-- end of {what} -->" not in text] == []


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(InputError, match="network 'resnet-51'"):
        overridden("train", TOPICS["train"], ("resnet-51",), None, None, None)
    assert {name for topic in TOPICS.values() for name in topic.networks if name} <= TWINS.keys()
