import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dadlab.vlm import geometry
from dadlab.vlm.geometry import inversions, relative_hits, shared_neighbours, squared_distances


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


def mean(values: torch.Tensor) -> float:
    """What the paper prints of values of single images."""
    return values.double().mean().item()


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
    swapped = 0
    for s, t in zip(student, teacher, strict=True):
        order = sorted(range(len(text)), key=lambda c, t=t: math.dist(t, text[c]))[:k]
        listed = [math.dist(s, text[c]) for c in order]
        swapped += sum(listed[a] > listed[b] for a in range(k) for b in range(a + 1, k))
    return swapped / len(student)


@pytest.fixture(params=[2**27, 8 * 30 * 7, 1], ids=["one block", "blocks of seven", "row by row"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(geometry, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("amount", [0.3, 1.0, 3.0])
def test_metrics_equal_their_naive_versions(amount):
    teacher, text = unit(30, 6), unit(11, 6, seed=2)
    student = noisy(teacher, amount)
    assert mean(relative_hits(student, teacher)) == pytest.approx(naive_relative(student, teacher))
    for k, found in shared_neighbours(student, teacher).items():
        assert mean(found) / k == pytest.approx(naive_neighbours(student, teacher, k))
    for k, found in inversions(student, teacher, text).items():
        assert mean(found) == pytest.approx(naive_language(student, teacher, text, k))


def test_longer_features_are_not_nearer():
    teacher = torch.tensor([[1.0, 0.0], [10.0, 0.0]])
    assert relative_hits(torch.tensor([[1.1, 0.0], [9.0, 0.0]]), teacher).all()


def all_of(images: int) -> dict[int, list[int]]:
    """All neighbours shared, for the k that are counted unless others are asked for."""
    return {k: [k] * images for k in (3, 5, 10)}


def test_perfect_student():
    teacher, text = unit(40, 6), unit(9, 6, seed=2)
    assert squared_distances(teacher, teacher).tolist() == [0] * 40
    assert relative_hits(teacher, teacher).all()
    assert {k: found.tolist() for k, found in shared_neighbours(teacher, teacher).items()} == all_of(40)
    assert [found.tolist() for found in inversions(teacher, teacher, text).values()] == [[0] * 40] * 3


def test_collapsed_student_keeps_one_image():
    teacher = unit(40, 6)
    assert relative_hits(teacher[:1].expand(40, 6), teacher).tolist() == [True] + [False] * 39


def test_images_that_share_a_feature_are_no_misses():
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert relative_hits(twins, twins).all()


def test_neighbours_by_hand():
    # nearest two: of 0: {1, 2} and {3, 1}; of 1: {0, 2} and {0, 3}; of 2: {1, 0} and {1, 0}; of 3: {2, 1} and {0, 1}
    student, teacher = torch.tensor([[0.0], [1.0], [2.5], [6.0]]), torch.tensor([[0.0], [1.1], [6.0], [-1.0]])
    assert shared_neighbours(student, teacher, ks=(2,))[2].tolist() == [1, 1, 2, 1]  # M_neigh(2) is 5 / 8


def test_neighbours_do_not_mind_rotation_or_another_dimension():
    teacher = unit(50, 6)
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q[:6]
    found = shared_neighbours(teacher @ rotation, teacher)
    assert {k: shared.tolist() for k, shared in found.items()} == all_of(50)


def test_reversed_order_has_every_inversion():
    text = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0]])
    found = inversions(torch.tensor([[4.1], [-0.1]]), torch.tensor([[-0.1], [-0.2]]), text)
    assert {k: swapped.tolist() for k, swapped in found.items()} == {2: [1, 0], 3: [3, 0], 5: [10, 0]}
    assert {k: mean(swapped) for k, swapped in found.items()} == {2: 0.5, 3: 1.5, 5: 5}, "not divided by the pairs"


def test_texts_the_student_cannot_tell_apart_are_no_inversions():
    text = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert inversions(torch.tensor([[0.5, 0.0]]), torch.tensor([[0.1, 0.0]]), text, ks=(2,))[2].tolist() == [0]


@pytest.mark.parametrize(("mse", "degrees"), [(0.24, 28.4), (0.36, 34.9), (0.45, 39.2), (1.29, 69.2)])
def test_distance_of_an_angle_as_published(mse, degrees):
    angle = torch.tensor(math.radians(degrees))
    student, teacher = torch.stack([angle.cos(), angle.sin()])[None], torch.tensor([[1.0, 0.0]])
    assert mean(squared_distances(student, teacher)) == pytest.approx(mse, abs=0.005)


def test_half_precision_is_raised():
    teacher = unit(300, 16)
    assert squared_distances(teacher.half(), teacher.half()).dtype == torch.float32
    found = shared_neighbours(teacher.half(), teacher.half().float())
    assert {k: shared.tolist() for k, shared in found.items()} == all_of(300)


def compute_all(student, teacher, text):
    relative_hits(student, teacher)
    shared_neighbours(student, teacher)
    inversions(student, teacher, text)


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
        (lambda: relative_hits(torch.zeros(3, 2), torch.zeros(4, 2)), r"\(3, 2\) and \(4, 2\)"),
        (lambda: squared_distances(torch.zeros(0, 2), torch.zeros(0, 2)), r"\(0, 2\)"),
        (lambda: shared_neighbours(torch.zeros(3, 2), torch.zeros(4, 2)), "same images"),
        (lambda: shared_neighbours(torch.zeros(3, 2), torch.zeros(3, 2), ks=(2, 3, 0)), "1 to 2, .*images; got 3, 0"),
        (lambda: inversions(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(4, 3)), r"\(C, 2\).*\(4, 3\)"),
        (lambda: inversions(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(4, 2)), "1 to 4, .*texts; got 5"),
        (lambda: inversions(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(4, 2), ks=()), "got none"),
    ],
)
def test_bad_input(call, names):
    with pytest.raises(ValueError, match=names):
        call()
