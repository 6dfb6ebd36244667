import math

import pytest
import torch

from dadlab.dataset import Dataset
from dadlab.vlm.zero_shot import class_balanced, correct_by_scores, image_features, memory_features, retrieval_scores

TEXT = torch.eye(3)


def flat(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1)


@pytest.fixture
def pictures() -> Dataset:
    pixels = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Dataset("toy", ("a", "b"), pixels, torch.tensor([0, 1, 0, 1, 1]))


def test_features_do_not_depend_on_the_batch_and_have_unit_length(pictures):
    whole = image_features(flat, pictures)
    torch.testing.assert_close(image_features(flat, pictures, batch=2), whole)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(5))


def test_memory_is_the_mean_direction_of_views(pictures):
    views = [image_features(flat, pictures, view=v) for v in range(10)]
    torch.testing.assert_close(memory_features(flat, pictures), torch.nn.functional.normalize(sum(views), dim=1))


def test_retrieval_by_hand():
    features = torch.tensor([[0.0, 2.0, 0.0]])
    memory = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.6, 0.8], [0.0, 1.0, 0.0]])
    scores = retrieval_scores(features, TEXT, memory, torch.tensor([0, 0, 2]), alpha=0.5, beta=2.0)
    expected = [0.5 * (math.exp(-2) + math.exp(-2 * 0.4)), 1.0, 0.5]
    assert scores[0].tolist() == pytest.approx(expected)


def test_retrieval_without_weight_or_shots_is_zero_shot():
    features = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    cosines = features / features.norm(dim=1, keepdim=True)
    torch.testing.assert_close(retrieval_scores(features, TEXT, TEXT, torch.arange(3), alpha=0.0), cosines)
    nothing = retrieval_scores(features, TEXT, torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    torch.testing.assert_close(nothing, cosines)


def test_rare_classes_count_as_much_as_frequent_ones():
    labels = torch.tensor([4] * 98 + [1, 2])
    right = labels == 4
    assert float(class_balanced(right, labels).mean()) == pytest.approx(1 / 3)
    assert float(right.float().mean()) == pytest.approx(0.98)


def test_classes_of_equal_size_are_not_weighted():
    right, labels = torch.tensor([True, False, True, True]), torch.tensor([5, 5, 2, 2])
    assert torch.equal(class_balanced(right, labels), right.float())


def test_correct_by_scores():
    assert correct_by_scores(torch.tensor([[1.0, 2.0], [3.0, 2.0]]), torch.tensor([1, 1])).tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: retrieval_scores(TEXT, TEXT, TEXT, torch.arange(2)), r"\(3, 3\), \(2,\)"),
        (lambda: retrieval_scores(TEXT, torch.eye(2), TEXT, torch.arange(3)), r"\(2, 2\)"),
        (lambda: class_balanced(torch.zeros(0, dtype=torch.bool), torch.zeros(0)), "N > 0"),
        (lambda: class_balanced(torch.ones(3, dtype=torch.bool), torch.zeros(2)), "N > 0"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
