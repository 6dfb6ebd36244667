import math

import pytest
import torch
import torch.nn.functional as F

from dadlab.vlm.spectrum import (
    class_means,
    effective_rank,
    nearest_pairs,
    pairwise_cosines,
    rank_by_label,
    singular_values,
    spread,
)


def features(count: int = 12, width: int = 5) -> torch.Tensor:
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_singular_values_by_hand():
    # centred: ±2 along the first axis, ±1 along the second
    square = torch.tensor([[12.0, 1.0], [8.0, 1.0], [10.0, 2.0], [10.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(singular_values(square), torch.tensor([8.0, 2.0], dtype=torch.float64).sqrt())


def test_squares_are_eigenvalues_of_the_scatter_and_sum_to_it():
    x = features()
    centred = x - x.mean(0)
    eigenvalues = torch.linalg.eigvalsh(centred.T @ centred).flip(0)
    torch.testing.assert_close(singular_values(x).square(), eigenvalues)
    assert singular_values(x).square().sum().item() == pytest.approx(centred.square().sum().item())


def test_spectrum_does_not_mind_where_features_lie_or_how_they_are_turned():
    x = features()
    rotation = torch.linalg.qr(features(5, 5)).Q
    torch.testing.assert_close(singular_values(x @ rotation + 7), singular_values(x))


def test_mean_cosine_and_spectrum_agree_on_unit_vectors():
    # Σσ² = N − N‖mean‖², and ‖mean‖² follows from the mean pairwise cosine
    x = F.normalize(features(), dim=1)
    n, cosine = len(x), pairwise_cosines(x).mean().item()
    assert singular_values(x).square().sum().item() == pytest.approx(n - (1 + (n - 1) * cosine))


def test_effective_rank_by_hand_and_bounds():
    values = torch.tensor([3.0, 1.0])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(values) == pytest.approx(math.exp(entropy))
    assert effective_rank(5 * values) == pytest.approx(effective_rank(values))
    assert effective_rank(values.square()) < effective_rank(values)
    assert 1 <= effective_rank(singular_values(features())) <= 5


def test_ranks_by_label_vary_as_much_as_the_rank_does_over_labels():
    drawn = torch.randn(400, 60, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = drawn * torch.tensor([4.0, 2.0, 1.0, 1.0, 0.5])
    ranks = torch.tensor([effective_rank(singular_values(labels).square()) for labels in drawn])
    by_label = [rank_by_label(labels) for labels in drawn[:40]]
    assert by_label[0].mean().item() == pytest.approx(ranks[0].item(), rel=1e-4)
    error = torch.stack([values.std() / len(values) ** 0.5 for values in by_label]).mean()
    assert error == pytest.approx(ranks.std(), rel=0.25)


def test_ranks_by_label_by_hand():
    """A triangle and its centre: in all, and without the centre, 2; without a corner, σ² are 1.5 and 1/6."""
    corners = [[math.cos(turn), math.sin(turn)] for turn in (0.0, 2 * math.pi / 3, 4 * math.pi / 3)]
    without_corner = math.exp(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))
    missing = 2 - without_corner
    found = rank_by_label(torch.tensor([*corners, [0.0, 0.0]], dtype=torch.float64))
    assert found.tolist() == pytest.approx([2 + 0.75 * missing] * 3 + [2 - 2.25 * missing], rel=1e-5)


def test_spread_by_hand():
    # σ² are 8 and 2, σ as 2 to 1; of six pairs four stand at right angles, two are opposite
    cross = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    shares = {"effective rank, σ": (2 / 3, 1 / 3), "effective rank, σ²": (0.8, 0.2)}
    ranks = {name: math.exp(-sum(p * math.log(p) for p in pair)) for name, pair in shares.items()}
    expected = {**ranks, "Σσ²": 10.0, "mean cosine": -1 / 3}
    assert spread(cross) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0, -1.0], [3.0, -1.0], []])
def test_effective_rank_of_no_spectrum(values):
    with pytest.raises(ValueError, match="not be negative"):
        effective_rank(torch.tensor(values))


def test_cosines_of_all_pairs_in_order():
    x = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0], [1.0, 1.0]])
    r = math.sqrt(0.5)
    torch.testing.assert_close(pairwise_cosines(x), torch.tensor([0.0, -1.0, r, 0.0, r, -r]))


def test_nearest_pairs_by_hand():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
    found = nearest_pairs(x, ["owl", "bag", "gull"], 2)
    assert [(pair.first, pair.second) for pair in found] == [("owl", "gull"), ("bag", "gull")]
    assert [pair.cosine for pair in found] == pytest.approx([0.8, 0.6])
    assert len(nearest_pairs(x, ["owl", "bag", "gull"], 99)) == 3


def test_opposite_names_are_not_confused():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.6, 0.8]])
    (pair,) = nearest_pairs(x, ["owl", "bag", "gull"], 1)
    assert (pair.first, pair.second) == ("owl", "gull")


def test_class_means_by_hand():
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]])
    assert class_means(x, torch.tensor([1, 1, 0]), 2).tolist() == [[5, 6], [2, 0]]


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: singular_values(torch.zeros(1, 3)), r"at least 2 rows, got \(1, 3\)"),
        (lambda: pairwise_cosines(torch.zeros(3)), r"\(3,\)"),
        (lambda: nearest_pairs(torch.zeros(3, 2), ["owl"]), "3 rows .* got 1"),
        (lambda: class_means(torch.zeros(2, 2), torch.tensor([0, 2]), 4), r"without samples \[1, 3\]"),
        (lambda: class_means(torch.zeros(2, 2), torch.tensor([0, 2]), 2), "largest label 2"),
    ],
)
def test_bad_input(call, names):
    with pytest.raises(ValueError, match=names):
        call()
