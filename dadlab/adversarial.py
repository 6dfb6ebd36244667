"""Methods that attack the student while it trains.

Their attacks have the settings of their papers, on pixels in [0, 1]; DAT's are the profile's, as DAD's are. Where
nothing else is said the attack asks the student in eval mode: batch norm uses its running statistics and changes none,
and there is no dropout. Random numbers belong to a sample and a step, so a batch may be split over processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dadlab.attack import Classifier, direction, perturb, project, random_start
from dadlab.auxiliary import routed
from dadlab.batch import Batch, Tools
from dadlab.examples import sample_generators
from dadlab.losses import dad_loss
from dadlab.profile import Attack
from dadlab.pyramid import perturb_pyramid
from dadlab.views import counter_hash
from dadlab.wrappers import in_eval_mode

AT = Attack(norm="linf", epsilon=8 / 255, step_size=2 / 255, steps=10, start=1.0)
ADVPROP = Attack(norm="linf", epsilon=4 / 255, step_size=1 / 255, steps=5, start=1.0)
FAST_ADVPROP = Attack(norm="linf", epsilon=1 / 255, step_size=1 / 255, steps=1, start=1.0)
FAST_ATTACKED = 0.2  # Fast AdvProp's p_adv
_CHOICE = 2**40  # stream of `counter_hash`, above those of seeds and steps up to seed 1,000,000


def at(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Standard adversarial training (Madry et al., 2018, Eq. 2.1): min E max l₁(θ(x'), y), on x' alone.

    L∞ with ε = 8/255, 10 steps of 2/255 from a random start: Madry's for small images, with the 10 steps of the first
    paper's Table 7. Its Eq. 4 adds clean images; its 11-fold cost does not, and neither does Madry.
    """
    return F.cross_entropy(student(_examples(batch, tools, AT)).float(), batch.labels)


def advprop(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """AdvProp (Xie et al., 2020, Eq. 3 and Algorithm 1): l₁(θ(x), y) + max l₁(θ_aux(x'), y).

    θ_aux shares all weights with θ but its batch norms, through which the attack goes too. L∞ with ε = 4/255, 5 steps
    of 1/255 from a random start, as published; away from the true label as in Eq. 3 (its code is said to go towards
    a random wrong one).
    """
    with routed(tools.network, "auxiliary"):
        examples = _examples(batch, tools, ADVPROP)
    with routed(tools.network, len(batch.images)):
        clean, adversarial = student(torch.cat([batch.images, examples])).float().chunk(2)
    return F.cross_entropy(clean, batch.labels) + F.cross_entropy(adversarial, batch.labels)


def fast_advprop(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Fast AdvProp (Mei et al., 2022, Algorithm 1): a fifth of the images is attacked, and no pass is for attack alone.

    1/B · [Σ l₁(θ(x), y) + ½ Σ l₁(θ_aux(x + δ), y) + ½ Σ l₁(θ_aux(x'), y)], the first sum over four fifths of a batch.
    One pass at x + δ (random δ, batch statistics) gives both the input's gradient, for x', and the weights', for the
    update. L∞ with ε and one step of 1/255, p_adv = 0.2, β = ½, as published: 1.2 passes an image, where the first
    paper's Table 7 says 3, the cost of AdvProp with one step. Here a sample is drawn for attack with probability p_adv.
    Left out: shuffling over devices (statistics are the whole batch's), larger gradients for the batch norms'
    parameters, which Adam undoes, and its code's shorter training, by which the whole costs what plain training does.
    """
    network, count = tools.network, len(batch.images)
    drawn = counter_hash(batch.rows.cpu(), _CHOICE + tools.seed) / 2**64 < FAST_ATTACKED
    attacked = torch.from_numpy(drawn).to(batch.images.device)
    generators = sample_generators(batch.rows[attacked].cpu(), tools.seed)
    images, labels = batch.images[attacked], batch.labels[attacked]
    started = (images + random_start(images, FAST_ADVPROP, generators)).clamp(0, 1).requires_grad_(True)
    with routed(network, "auxiliary"):
        logits = network(started).float()
    noisy = F.cross_entropy(logits, labels, reduction="sum") / (2 * count)
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradient, *shared = torch.autograd.grad(noisy, [started, *weights], allow_unused=True)
    step = FAST_ADVPROP.step_size * direction(gradient, FAST_ADVPROP.norm)
    examples = (images + project(started.detach() - images + step, FAST_ADVPROP)).clamp(0, 1)
    with routed(network, count - len(images)):
        logits = student(torch.cat([batch.images[~attacked], examples])).float()
    clean, adversarial = logits.split([count - len(images), len(images)])
    update = F.cross_entropy(clean, batch.labels[~attacked], reduction="sum") / count
    update = update + F.cross_entropy(adversarial, labels, reduction="sum") / (2 * count)
    return update + with_gradient(noisy, weights, shared)


def with_gradient(value: Tensor, weights: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Tensor:
    """A scalar of this value that has this gradient, without the passes it came from; None is a gradient of 0."""
    given = [
        (weight * gradient).sum() for weight, gradient in zip(weights, gradients, strict=True) if gradient is not None
    ]
    linear = torch.stack(given).sum()
    return value.detach() + linear - linear.detach()


def pyramid_at(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Pyramid adversarial training (Herrmann et al., 2022, Eqs. 3–5): l₁(M(θ)(x), y) + l₁(M(θ)(xᵃ), y).

    M is one draw of dropout and stochastic depth, the same in both passes ("matched"); `perturb_pyramid` makes xᵃ,
    in 5 steps towards a random wrong class. Step 1/255 and ε 6/255 are its code's, whose pixels lie in [−1, 1]; here
    they are halved. Its attack draws dropout too, goes towards any class, the true one included, and clips after each
    scale; ours runs in eval mode, goes towards another class and clips the sum, as in Eq. 4.
    """
    generators = sample_generators(batch.rows.cpu(), tools.seed)
    draws = torch.tensor([float(torch.rand((), generator=generator)) for generator in generators])
    with _asked(tools.network) as classifier:
        examples = perturb_pyramid(classifier, batch.images, batch.labels, draws.to(batch.images.device))
    mask = int(torch.randint(2**62, ()))
    losses = []
    for images in (batch.images, examples):
        torch.manual_seed(mask)
        losses.append(F.cross_entropy(student(images).float(), batch.labels))
    return losses[0] + losses[1]


def dat(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Discrete adversarial training (Mao et al., 2022; the first paper's Eq. 5): l₁(θ(x), y) + max l₁(θ(Q(x')), y).

    x' is made from Q(x) against the student, with the profile's attack, in every step anew, and not filtered. Its code
    attacks in train mode from a random start in four batches of five, and passes x and Q(x') apart; here they share a
    pass, as DAD's do, and `attack.start` is the profile's (neither helps, papers/LOG.md).
    """
    clean, adversarial = student(torch.cat([batch.images, _discrete(batch, tools)])).float().chunk(2)
    return F.cross_entropy(clean, batch.labels) + F.cross_entropy(adversarial, batch.labels)


def dat_dad(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """DAT + DAD (the first paper's appendix C): Eq. 9 on the teacher's samples, plus a · l₁(θ(Q(x'_θ)), y).

    x'_θ is `dat`'s: made from Q(x) against the student. All three share a pass.
    """
    sizes = [len(batch.images), len(batch.second_images), len(batch.images)]
    logits = student(torch.cat([batch.images, batch.second_images, _discrete(batch, tools)])).float()
    clean, stored, own = logits.split(sizes)
    distilled = dad_loss(clean, batch.teacher, batch.labels, stored, batch.second_teacher, **tools.weights)
    return distilled + tools.profile.alpha * F.cross_entropy(own, batch.labels)


def _discrete(batch: Batch, tools: Tools) -> Tensor:
    """Q(x') (B, 3, H, W) of the student's own x' around Q(x)."""
    assert tools.discretizer is not None
    generators, through = sample_generators(batch.rows.cpu(), tools.seed), tools.discretizer.straight_through
    start = _through(tools.discretizer, batch.images)
    with _asked(tools.network) as classifier:
        found = perturb(classifier, start, batch.labels, tools.profile.attack, generators, through=through)
    return _through(tools.discretizer, found)


@torch.no_grad()
def _through(discretizer: Classifier, images: Tensor) -> Tensor:
    """Q(x), in the memory layout of Q's weights: on CPUs the student's takes half as long again."""
    return discretizer(images.contiguous()).float()


def _examples(batch: Batch, tools: Tools, attack: Attack) -> Tensor:
    """x' (B, 3, H, W) of the student, around x."""
    generators = sample_generators(batch.rows.cpu(), tools.seed)
    with _asked(tools.network) as classifier:
        return perturb(classifier, batch.images, batch.labels, attack, generators)


@contextlib.contextmanager
def _asked(network: nn.Module) -> Iterator[Classifier]:
    """The student as an attack sees it: in eval mode, with logits in single precision."""
    with in_eval_mode(network):
        yield lambda images: network(images).float()
