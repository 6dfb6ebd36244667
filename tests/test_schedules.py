import math

import pytest
import torch
from torch.optim import SGD, AdamW, Optimizer

from dadlab.schedules import SCHEDULES, one_cycle, warm_cosine


def adamw(lr: float = 1e-3) -> AdamW:
    return AdamW([torch.nn.Parameter(torch.zeros(1))], lr)


def rates(name: str, optimizer: Optimizer, steps: int) -> list[float]:
    """The rate of each step."""
    schedule, found = SCHEDULES[name](optimizer, steps), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 57])
def test_no_step_is_above_the_peak_or_without_a_rate(name, steps):
    found = rates(name, adamw(), steps)
    assert all(0 < rate <= 1e-3 for rate in found)
    assert found[max(range(steps), key=found.__getitem__) :] == sorted(found[found.index(max(found)) :], reverse=True)


def test_warm_cosine_by_hand():
    """Eleven steps up, the peak, and half of it half way down."""
    found = rates("warm_cosine", adamw(12.0), 99)
    assert found[:12] == pytest.approx(list(range(1, 13)))
    assert found[11 + 44] == pytest.approx(6.0)
    assert found[-1] == pytest.approx(6 * (1 + math.cos(math.pi * 87 / 88)))


def test_warm_cosine_warms_up_for_ten_thousand_steps_of_augregs_three_hundred_epochs():
    optimizer = adamw(1.0)
    (share,) = warm_cosine(optimizer, 300 * math.ceil(1_281_167 / 4096)).lr_lambdas
    assert share(9_999) < 1.0 == share(10_000) > share(10_001)


def test_momentum_moves_in_one_cycle_alone():
    before, after = adamw(), adamw()
    rates("warm_cosine", before, 20)
    assert before.param_groups[0]["betas"] == (0.9, 0.999)
    one_cycle(after, 20)
    assert after.param_groups[0]["betas"] == (0.95, 0.999)


def test_one_cycle_takes_optimizers_without_momentum_and_each_groups_peak():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)]
    one_cycle(torch.optim.Adagrad(groups), 20)
    assert groups[0]["lr"] == pytest.approx(10 * groups[1]["lr"])
    plain = SGD([torch.nn.Parameter(torch.zeros(1))], 1.0, momentum=0.9)
    one_cycle(plain, 20)
    assert plain.param_groups[0]["momentum"] == 0.95


def test_one_cycle_rises_for_a_twentieth_of_the_steps():
    found = rates("one_cycle", adamw(), 201)
    assert found.index(max(found)) == pytest.approx(10, abs=1)
    assert found[0] < 0.1 * max(found)
    assert found[-1] < 1e-3 * max(found)
