"""What a training step costs, in passes a clean image (Zhou et al., 2023, Table 7).

Seconds are measured by `benchmarks/method_cost.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from dadlab.methods import Method
from dadlab.profile import Profile


@dataclass(frozen=True)
class Cost:
    """Passes a clean image of a step; all batches but an attacked share are passed whole.

    Attributes:
        attack_steps: on the student, while it trains; a store's were made before.
        forward, backward: of the student.
        discretizer: forward, of Q.
        teacher: forward, of the teacher: none, since its answers are cached.
    """

    attack_steps: int
    forward: float
    backward: float
    discretizer: int
    teacher: int = 0


def step_cost(method: Method, profile: Profile) -> Cost:
    """A method's cost under a profile, whose attack counts where the method uses it on the student.

    >>> from dadlab.methods import METHODS
    >>> step_cost(METHODS["at"], Profile()).forward  # ten steps and the update
    11.0
    """
    online = profile.attack if "attack" in method.online else method.attack
    steps = online.steps if online else 0
    passes = method.passes + (method.second != "none") + steps * method.attacked
    return Cost(steps, passes, passes, 2 * ("discretizer" in method.online))
