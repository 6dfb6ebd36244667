import math

import numpy as np
import pytest

from dadlab.estimates import Estimate, difference
from dadlab.tables.verdicts import (
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    claims_record,
    claims_table,
    judge,
    judge_all,
    printed,
)

WRONG = np.zeros((5, 200))


def runs(gain: float, *, seed: int = 0, shape: tuple[int, int] = (5, 400)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random(shape) < 0.5 + gain, rng.random(shape) < 0.5


def shifted(points: float, shape: tuple[int, int] = (5, 200)) -> np.ndarray:
    """A difference to `WRONG` of so many points, with a little noise of seeds and images."""
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(shape[0], 1)) + rng.normal(size=(1, shape[1]))
    return (points + 0.1 * (noise - noise.mean())) / 100


@pytest.mark.parametrize(
    ("points", "above", "below", "verdict"),
    [
        (5, 0, math.inf, HOLDS),
        (-5, 0, math.inf, FAILS),
        (0.01, 0, math.inf, OPEN),
        (-0.5, -1, math.inf, HOLDS),  # no worse by more than a point
        (-5, -math.inf, 0, HOLDS),  # lower is better
        (5, -math.inf, 0, FAILS),
        (0.2, -1, 1, HOLDS),  # as good as
        (3, -1, 1, FAILS),
        (1, -1, 1, OPEN),
    ],
)
def test_verdict_is_where_the_interval_lies(points, above, below, verdict):
    assert judge(shifted(points), WRONG, claims=4, above=above, below=below).verdict == verdict


def test_an_interval_that_ends_on_the_edge_of_a_range_lies_outside():
    """The range is open."""
    effect = judge(shifted(5), WRONG, claims=4).effect
    assert judge(shifted(5), WRONG, claims=4, above=effect.high).verdict == FAILS
    assert judge(shifted(5), WRONG, claims=4, above=-9, below=effect.low).verdict == FAILS
    assert judge(shifted(5), WRONG, claims=4, above=effect.low).verdict == OPEN


def test_constant_difference_on_the_edge_cannot_be_told():
    found = judge(WRONG, WRONG, claims=1)
    assert (found.verdict, found.would_tell) == (OPEN, "nothing: the effect lies on the edge")


def test_none_of_fifty_twice_is_not_certainly_the_same():
    """Two models that an attack leaves nothing of, on 50 photographs: either may still stand on 7 % of all others."""
    nothing = np.zeros((5, 50))
    found = judge(nothing, nothing, claims=1, below=1.0, above=-math.inf)
    assert (found.verdict, found.effect.mean) == (OPEN, 0)
    assert found.would_tell == "368 images"  # 1 − 0.025^(1 / n) < 0.01
    more = np.zeros((5, 368))
    assert judge(more, more, claims=1, below=1.0, above=-math.inf).verdict == HOLDS


def test_all_of_fifty_may_still_be_fewer_of_all_others():
    """A gain of 1 that may be −1 where it was not seen: two points for each point of what 50 photographs miss."""
    found = judge(np.ones((5, 50)), np.zeros((5, 50)), claims=1, above=95)
    assert (found.verdict, found.effect.high) == (OPEN, 100)
    assert found.would_tell == "146 images"  # 2 (1 − 0.025^(1 / n)) < 0.05


def test_equal_values_of_no_known_bound_tell_nothing():
    same = np.full((5, 50), 7.0)
    found = judge(same, same - 3, claims=1, scale=1)
    assert (found.verdict, found.would_tell) == (OPEN, "values that are not all alike")
    assert "low" not in claims_record([Claim("s", "A", "B", "d", scale=1)], [found])[0]["effect"]


def test_more_claims_widen_the_interval_and_can_undo_a_verdict():
    first, second = runs(0.06, shape=(5, 600))
    one, many = (judge(first, second, claims=claims) for claims in (1, 20))
    assert (one.level, many.level) == pytest.approx((0.95, 0.9975))
    assert many.effect.low < one.effect.low < one.effect.high < many.effect.high
    assert one.effect == difference(first, second)
    assert (one.verdict, many.verdict) == (HOLDS, OPEN)


def test_one_seed_never_tells():
    found = judge(np.ones((1, 100)), np.zeros((1, 100)), claims=1)
    assert (found.verdict, found.would_tell) == (OPEN, "at least 2 seeds")
    assert judge(np.ones((1, 1)), np.zeros((1, 1)), claims=1, turns="rounds").would_tell == "at least 2 rounds"


def test_chance_alone_seldom_makes_a_verdict():
    """Seeds and images without any difference: at most the allowed share of verdicts."""
    found = [judge(*runs(0.0, seed=s, shape=(5, 120)), claims=1).verdict for s in range(100)]
    assert sum(verdict != OPEN for verdict in found) <= 9  # of 100 with a chance of 0.05: one in forty such tests


def test_the_number_named_does_tell():
    first, second = runs(0.02, shape=(3, 400), seed=11)
    found = judge(first, second, claims=1)
    assert found.verdict == OPEN
    needed, unit = found.would_tell.split(" ")
    assert unit == "seeds"
    gain = found.effect.mean / 100
    again = [judge(*runs(gain, seed=s, shape=(int(needed), 400)), claims=1).verdict for s in range(40)]
    assert again.count(HOLDS) >= 24


CLAIMS = [Claim("A beats B", "A", "B", "ood"), Claim("A is nearer", "A", "B", "distance", -math.inf, 0, 1)]
MEASURED = {
    ("A", "ood"): shifted(5),
    ("B", "ood"): WRONG,
    ("A", "distance"): 0.5 + shifted(2),
    ("B", "distance"): 0.75 + WRONG,
}


def test_a_table_of_claims_shares_its_level():
    verdicts = judge_all(CLAIMS, MEASURED)
    assert [found.verdict for found in verdicts] == [HOLDS, HOLDS]
    assert {found.level for found in verdicts} == {0.975}
    shown = claims_table(CLAIMS, verdicts)
    assert shown.loc["A beats B", "effect"].startswith("+5.0 [+4.")
    assert shown.loc["A is nearer", "effect"].startswith("-0.230 [")
    assert shown.loc["A is nearer", "difference"] == "A − B"
    record = claims_record(CLAIMS, verdicts)
    assert record[1]["below"] == 0
    assert "above" not in record[1], "JSON has no infinity"
    assert record[0]["effect"]["mean"] == pytest.approx(5)


def test_what_was_not_measured_is_named():
    with pytest.raises(ValueError, match="'C' was not measured on 'ood'"):
        judge_all([Claim("C beats B", "C", "B", "ood")], MEASURED)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda: judge(WRONG, WRONG[:2], claims=1), "seeds, images"),
        (lambda: judge(WRONG, WRONG, claims=0), "claims must be at least 1"),
        (lambda: Claim("nothing", "A", "B", "ood", 1, 1), "range from 1 to 1 is empty"),
    ],
)
def test_bad_input_is_one_clear_line(broken, message):
    with pytest.raises(ValueError, match=message):
        broken()


def test_effects_are_printed_with_the_decimals_they_deserve():
    effect = Estimate(25.0, 24.5, 25.51)
    assert printed(effect) == "+25.0 [+24.5, +25.5]"
    assert printed(effect, scale=1) == "+25.000 [+24.500, +25.510]"
    assert printed(Estimate(25.0)) == "+25.0"
