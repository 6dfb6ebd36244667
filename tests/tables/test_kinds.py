"""Three kinds of adversarial example, and the rule by which photographs are chosen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dadlab.profile import Attack
from dadlab.tables.kinds import KINDS, chosen, fooled, likeness, strength, three_kinds


def test_kinds_stay_images_and_only_pixel_space_stays_near(photos40, tiny_teacher, tiny_student, tiny_vqgan):
    index = torch.arange(4)
    images, labels = photos40.images(index), photos40.labels[index]
    models = {"teacher": tiny_teacher, "student": tiny_student, "discretizer": tiny_vqgan}
    made = three_kinds(images, labels, **models, attack=Attack(epsilon=1.0, step_size=1.0))
    assert tuple(made) == KINDS
    lengths = {kind: (found - images).flatten(1).norm(dim=1).max() for kind, found in made.items()}
    assert all(found.min() >= 0 and found.max() <= 1 for found in made.values())
    assert lengths["pixel space"] <= 1 + 1e-5
    assert min(lengths["DAD (teacher)"], lengths["DAT (student)"]) > 1


class Brightness(nn.Module):
    """Says 1 of bright images and 0 of dark ones."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images.mean((1, 2, 3))
        return torch.stack([1 - bright, bright], 1)


def test_photographs_are_chosen_by_the_rule():
    dark, bright = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    images, labels = torch.cat([dark, dark, dark, bright]), torch.zeros(4, dtype=torch.int64)
    # photograph 0 is never fooled, 1 by one kind, 2 by both; 3 is not known in the first place
    kinds = {"a": torch.cat([dark, bright, bright, bright]), "b": torch.cat([dark, dark, bright, bright])}
    times = fooled(Brightness(), images, labels, kinds)
    assert times.tolist() == [0, 1, 2, -1]
    assert chosen(times, 1).tolist() == [2]
    assert chosen(times, 4).tolist() == [2, 1, 0]


def test_likeness_has_no_scale_and_strength_is_one():
    changes = torch.zeros(3, 3, 2, 2)
    changes[0, 0], changes[1, 0], changes[2, 1] = 0.1, 0.2, 0.3  # two in one direction, the third in another
    longer = changes * torch.tensor([5.0, 1.0, 9.0])[:, None, None, None]
    assert likeness(changes).mean() == pytest.approx(1 / 3)
    assert likeness(changes).tolist() == pytest.approx(likeness(longer).tolist())
    assert likeness(changes).tolist() == pytest.approx([2 / 3, 2 / 3, -1 / 3])  # twice 1/2, 1/2 and 0, less the mean
    assert strength(changes).tolist() == pytest.approx([255 * part / 3**0.5 for part in (0.1, 0.2, 0.3)])
    with pytest.raises(ValueError, match="pairs"):
        likeness(changes[:1])
