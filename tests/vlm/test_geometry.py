import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dadlab.vlm import geometry
from dadlab.vlm.geometry import language_coherence, neighbour_coherence, relative_coherence, squared_distance


class Largest(TorchDispatchMode):
    """Remembers the largest storage, in bytes, that any operation gave."""

    size = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        found = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                self.size = max(self.size, tensor.untyped_storage().nbytes())
        return found


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def noisy(features: torch.Tensor, amount: float) -> torch.Tensor:
    return F.normalize(features + amount * unit(*features.shape, seed=1), dim=1)


def naive_relative(student, teacher):
    return (torch.cdist(student, teacher).argmin(1) == torch.arange(len(student))).double().mean().item()


def naive_neighbours(student, teacher, k):
    total = 0
    for i in range(len(student)):
        sets = []
        for features in (student, teacher):
            order = sorted(range(len(features)), key=lambda j, f=features: math.dist(f[i], f[j]))
            sets.append(set([j for j in order if j != i][:k]))
        total += len(sets[0] & sets[1])
    return total / (k * len(student))


def naive_language(student, teacher, text, k):
    inversions = 0
    for s, t in zip(student, teacher, strict=True):
        order = sorted(range(len(text)), key=lambda c, t=t: math.dist(t, text[c]))[:k]
        listed = [math.dist(s, text[c]) for c in order]
        inversions += sum(listed[a] > listed[b] for a in range(k) for b in range(a + 1, k))
    return inversions / len(student)


@pytest.fixture(params=[2**27, 8 * 30 * 7, 1], ids=["one block", "blocks of seven", "row by row"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(geometry, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("amount", [0.3, 1.0, 3.0])
def test_metrics_equal_their_naive_versions(amount):
    teacher, text = unit(30, 6), unit(11, 6, seed=2)
    student = noisy(teacher, amount)
    assert relative_coherence(student, teacher) == pytest.approx(naive_relative(student, teacher))
    for k, found in neighbour_coherence(student, teacher).items():
        assert found == pytest.approx(naive_neighbours(student, teacher, k))
    for k, found in language_coherence(student, teacher, text).items():
        assert found == pytest.approx(naive_language(student, teacher, text, k))


def test_longer_features_are_not_nearer():
    teacher = torch.tensor([[1.0, 0.0], [10.0, 0.0]])
    assert relative_coherence(torch.tensor([[1.1, 0.0], [9.0, 0.0]]), teacher) == 1


def test_perfect_student():
    teacher, text = unit(40, 6), unit(9, 6, seed=2)
    assert squared_distance(teacher, teacher) == (0, 0)
    assert relative_coherence(teacher, teacher) == 1
    assert neighbour_coherence(teacher, teacher) == {3: 1, 5: 1, 10: 1}
    assert language_coherence(teacher, teacher, text) == {2: 0, 3: 0, 5: 0}


def test_collapsed_student_keeps_one_image():
    teacher = unit(40, 6)
    assert relative_coherence(teacher[:1].expand(40, 6), teacher) == pytest.approx(1 / 40)


def test_images_that_share_a_feature_are_no_misses():
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert relative_coherence(twins, twins) == 1


def test_neighbours_by_hand():
    # nearest two: of 0: {1, 2} and {3, 1}; of 1: {0, 2} and {0, 3}; of 2: {1, 0} and {1, 0}; of 3: {2, 1} and {0, 1}
    student, teacher = torch.tensor([[0.0], [1.0], [2.5], [6.0]]), torch.tensor([[0.0], [1.1], [6.0], [-1.0]])
    assert neighbour_coherence(student, teacher, ks=(2,))[2] == pytest.approx((1 + 1 + 2 + 1) / 8)


def test_neighbours_do_not_mind_rotation_or_another_dimension():
    teacher = unit(50, 6)
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q[:6]
    assert neighbour_coherence(teacher @ rotation, teacher) == {3: 1, 5: 1, 10: 1}


def test_reversed_order_has_every_inversion():
    text = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0]])
    found = language_coherence(torch.tensor([[4.1], [-0.1]]), torch.tensor([[-0.1], [-0.2]]), text)
    assert found == {2: 0.5, 3: 1.5, 5: 5}  # one image of two reversed: half of 1, 3 and 10


def test_texts_the_student_cannot_tell_apart_are_no_inversions():
    text = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert language_coherence(torch.tensor([[0.5, 0.0]]), torch.tensor([[0.1, 0.0]]), text, ks=(2,)) == {2: 0}


@pytest.mark.parametrize(("mse", "degrees"), [(0.24, 28.4), (0.36, 34.9), (0.45, 39.2), (1.29, 69.2)])
def test_angle_of_a_distance_as_published(mse, degrees):
    angle = torch.tensor(math.acos(1 - mse / 2))
    student, teacher = torch.stack([angle.cos(), angle.sin()])[None], torch.tensor([[1.0, 0.0]])
    assert squared_distance(student, teacher) == pytest.approx((mse, degrees), abs=0.06)


def test_half_precision_is_raised():
    teacher = unit(300, 16)
    found = neighbour_coherence(teacher.half(), teacher.half().float())
    assert found == {3: 1, 5: 1, 10: 1}


def compute_all(student, teacher, text):
    relative_coherence(student, teacher)
    neighbour_coherence(student, teacher)
    language_coherence(student, teacher, text)


def test_no_tensor_outgrows_a_block(monkeypatch):
    monkeypatch.setattr(geometry, "BLOCK_BYTES", 2**18)
    teacher = unit(2000, 4).float()
    with Largest() as largest:
        compute_all(noisy(teacher.double(), 1.0).float(), teacher, unit(300, 4, seed=2).float())
    assert largest.size <= 2**18  # all distances would be 16 MB


@pytest.mark.slow
def test_no_tensor_outgrows_a_block_at_twenty_thousand_images():
    teacher = unit(20_000, 16).float()
    with Largest() as largest:
        compute_all(noisy(teacher.double(), 1.0).float(), teacher, unit(1000, 16, seed=2).float())
    assert largest.size <= geometry.BLOCK_BYTES < 20_000**2 * 4 / 10


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: relative_coherence(torch.zeros(3, 2), torch.zeros(4, 2)), r"\(3, 2\) and \(4, 2\)"),
        (lambda: squared_distance(torch.zeros(0, 2), torch.zeros(0, 2)), r"\(0, 2\)"),
        (lambda: neighbour_coherence(torch.zeros(3, 2), torch.zeros(4, 2)), "same images"),
        (lambda: neighbour_coherence(torch.zeros(3, 2), torch.zeros(3, 2), ks=(2, 3, 0)), "1 to 2, .*images; got 3, 0"),
        (lambda: language_coherence(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(4, 3)), r"\(C, 2\).*\(4, 3\)"),
        (lambda: language_coherence(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(4, 2)), "1 to 4, .*texts; got 5"),
        (lambda: language_coherence(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(4, 2), ks=()), "got none"),
    ],
)
def test_bad_input(call, names):
    with pytest.raises(ValueError, match=names):
        call()
