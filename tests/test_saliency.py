"""Maps of where a network looks."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dadlab.saliency import attention_rollout, grad_cam, overlay, saliency
from dadlab.students import Student

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([1, 7])


@pytest.mark.parametrize("name", ["resnet_s", "vit_s"])
def test_maps_span_the_image_and_leave_the_student_as_it_was(name: str) -> None:
    student = Student(name, 10).eval()
    before = student(IMAGES)
    maps = saliency(student, IMAGES, LABELS)
    assert maps.shape == (2, 32, 32)
    assert (maps.amin((1, 2)) == 0).all()
    assert (maps.amax((1, 2)) <= 1).all()
    torch.testing.assert_close(student(IMAGES), before)
    assert all(parameter.grad is None for parameter in student.parameters())


class Corner(nn.Module):
    """A network whose class 0 is the brightness of the upper left quarter, and class 1 that of the rest."""

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        corner = torch.zeros(1, 1, *images.shape[-2:])
        corner[..., : images.shape[-2] // 2, : images.shape[-1] // 2] = 1
        grey = images.mean(1, keepdim=True)
        return torch.cat([grey * corner, grey * (1 - corner)], 1)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        return features.sum((2, 3))


def test_grad_cam_finds_what_a_class_is_made_of(tiny_student: Student) -> None:
    student = Student("resnet_s", 10).eval()
    student.preprocess, student.net = nn.Identity(), Corner()
    maps = grad_cam(student, torch.ones(2, 3, 8, 8), torch.tensor([0, 1]))
    assert maps[0, :4, :4].min() > 0
    assert maps[0, 4:].max() == 0
    assert maps[1, :4, :4].max() == 0
    assert maps[1, 4:].min() > 0


class Against(Corner):
    """Of a class its quarter is what speaks against it."""

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        return -super().forward_head(features)


def test_what_speaks_against_a_class_is_not_shown() -> None:
    student = Student("resnet_s", 10).eval()
    student.preprocess, student.net = nn.Identity(), Against()
    assert (grad_cam(student, torch.ones(1, 3, 8, 8), torch.tensor([0])) == 0).all()


def test_rollout_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers, a class token and two patches: with the residual paths the token has half of itself and of patch 1,
    which has kept 3/4 of itself."""
    first, second = ([[1, 0, 0], [0, 0.5, 0.5], [0, 0, 1]], [[0, 1, 0], [0, 1, 0], [0, 0, 1]])
    layers = [torch.tensor([[layer]], dtype=torch.float32) for layer in (first, second)]
    monkeypatch.setattr("dadlab.saliency._attention", lambda net: contextlib.nullcontext(layers))
    patches = SimpleNamespace(grid_size=(1, 2))
    net = SimpleNamespace(num_prefix_tokens=1, forward_features=nn.Identity(), patch_embed=patches)
    maps = attention_rollout(SimpleNamespace(net=net, preprocess=nn.Identity()), torch.ones(1, 3, 8, 8))
    assert maps.tolist() == [[[0.375, 0.125]]]


def test_rollout_is_what_the_class_token_receives() -> None:
    student = Student("vit_s", 10).eval()
    maps = attention_rollout(student, IMAGES)
    assert maps.shape == (2, 8, 8)
    assert (maps > 0).all()
    assert (maps.sum((1, 2)) < 1).all(), "some stays with the class token itself"
    with torch.no_grad():
        for block in student.net.blocks:
            block.attn.qkv.weight[:192] = 0  # queries and keys alike everywhere: attention is even
            block.attn.qkv.bias[:192] = 0
    even = attention_rollout(student, IMAGES)
    torch.testing.assert_close(even, even[:, :1, :1].expand_as(even))


def test_a_network_without_such_parts_has_no_map() -> None:
    student = Student("resnet_s", 10).eval()
    student.net = nn.Linear(1, 1)
    assert saliency(student, IMAGES, LABELS) is None


def test_overlay_tints_where_the_map_is_high() -> None:
    maps = torch.zeros(1, 2, 2)
    maps[0, 0, 0] = 1
    tinted = overlay(torch.full((1, 3, 2, 2), 0.5), maps)
    torch.testing.assert_close(tinted[0, :, 1, 1], torch.full((3,), 0.5))
    red, _, blue = tinted[0, :, 0, 0].tolist()
    assert red > 0.7 > 0.3 > blue
