import pytest

from dadlab import progress
from dadlab.progress import one_line, say, track


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """A clock that ticks ten seconds at every look, where nobody watches."""
    now = [0.0]

    def look() -> float:
        now[0] += 10
        return now[0]

    monkeypatch.setattr(progress.time, "monotonic", look)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    return now


def test_items_pass_in_order():
    assert list(track([3, 1, 2], "counting")) == [3, 1, 2]


def test_fast_work_is_silent(capsys):
    list(track(range(1000), "counting"))
    assert capsys.readouterr() == ("", "")


def test_slow_work_speaks_every_fifteen_seconds_but_not_at_the_end(clock, capsys):
    list(track(range(6), "counting"))
    # looks at 10 (start), 20, 30, … s: more than 15 s have passed after items 2, 4 and 6, and 6 is the last
    assert capsys.readouterr().out == "counting: 2/6 in 20 s\ncounting: 4/6 in 40 s\n"


def test_unknown_length_is_a_question_mark(clock, capsys):
    list(track(iter(range(2)), "counting"))
    assert capsys.readouterr().out == "counting: 2/? in 20 s\n"


def test_total_can_be_told(clock, capsys):
    list(track(iter(range(3)), "counting", 9))
    assert capsys.readouterr().out == "counting: 2/9 in 20 s\n"


@pytest.mark.parametrize(("place", "alone", "spoken"), [("0", False, 1), ("1", False, 0), ("1", True, 1)])
def test_of_processes_started_together_the_first_speaks_or_who_works_alone(
    clock, monkeypatch, capsys, place, alone, spoken
):
    monkeypatch.setenv("LOCAL_RANK", place)
    assert list(track([3, 1, 2], "counting", alone=alone)) == [3, 1, 2]
    assert capsys.readouterr().out == "counting: 2/3 in 20 s\n" * spoken


def test_what_every_process_would_say_is_said_by_the_first(monkeypatch, capsys):
    for place in ("0", "1", "7"):
        monkeypatch.setenv("LOCAL_RANK", place)
        say("codes are decoded on the CPU")
    assert capsys.readouterr().out == "codes are decoded on the CPU\n"


def test_jupyter_gets_a_bar(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook")
    bars = []
    monkeypatch.setattr(progress, "tqdm", lambda items, what, total, leave: bars.append((what, total)) or items)
    assert list(track([1, 2], "counting")) == [1, 2]
    assert bars == [("counting", 2)]


def test_an_error_is_said_in_a_line_even_if_it_says_nothing():
    assert one_line(ValueError("a\n  long\tstory " + 400 * "x")).startswith("a long story xxx")
    assert len(one_line(ValueError(400 * "x"))) == 300
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
