"""What a training step costs, in passes a clean image (Zhou et al., 2023, Table 7).

Seconds are measured by `benchmarks/method_cost.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from dadlab.methods import Method
from dadlab.profile import ATTACKS, Profile


@dataclass(frozen=True)
class Cost:
    """Passes a clean image of a step; all batches but an attacked share are passed whole.

    Attributes:
        attack_steps: on the student, while it trains; a store's were made before.
        forward, backward: of the student.
        discretizer: forward, of Q: to x', from it, and in every step of an attack that takes its gradient through Q.
        transfer: of the style transfer, which encodes two images and draws one.
    """

    attack_steps: int
    forward: float
    backward: float
    discretizer: int
    transfer: int = 0


@dataclass(frozen=True)
class TeacherCost:
    """Passes of the teacher a training photograph: made once, before training, and shared by all seeds and students.

    A step makes none, since answers are cached; spread over a run's steps they are a number of epochs less.
    """

    forward: float
    backward: float


def step_cost(method: Method, profile: Profile) -> Cost:
    """A method's cost under a profile, whose attack counts where the method uses it on the student.

    >>> from dadlab.methods import METHODS
    >>> step_cost(METHODS["at"], Profile()).forward  # ten steps and the update
    11.0
    """
    online = profile.attack if "attack" in method.online else method.attack
    steps = online.steps if online else 0
    passes = method.passes + (method.second != "none") + steps * method.attacked
    redrawn = (2 + steps * profile.attack.through) * ("discretizer" in method.online)
    return Cost(steps, passes, passes, redrawn, int("transfer" in method.online))


def teacher_cost(method: Method, profile: Profile, *, kept: float = 1.0) -> TeacherCost:
    """What a method's materials cost the teacher.

    A sample is asked about at x, at Q(x') and in every step of the attack, whose first one answers for Q(x) too where
    it begins there.

    Args:
        method, profile: whose materials.
        kept: share of the samples that the filter keeps; only they have their views cached.

    >>> from dadlab.methods import METHODS
    >>> teacher_cost(METHODS["kd"], Profile(views=8))
    TeacherCost(forward=8.0, backward=0.0)
    """
    attacks = {"discretized": [profile.attack], "adversarial": [profile.attack]}
    attacks["matched"] = [profile.attack, ATTACKS["none"]]
    stores = attacks.get(method.second, [])
    asked = sum(2 + a.steps + (not a.steps or a.start > 0 or a.through) for a in stores)
    views = profile.views * method.uses_teacher * (1 + bool(stores) * kept * profile.variants)
    return TeacherCost(views + profile.variants * asked, float(profile.variants * sum(a.steps for a in stores)))
