import pytest
import torch

from dadlab.clip_tower import clip_resnet
from dadlab.teacher import load_teacher


def test_it_is_the_embedded_tower_parameter_for_parameter():
    tower = load_teacher("resnet").clip.visual
    ours, theirs = (sorted(tuple(p.shape) for p in net.parameters()) for net in (clip_resnet(64, 32), tower))
    assert ours == theirs


@pytest.mark.parametrize("size", [32, 48])
def test_it_tells_places_apart(size):
    torch.manual_seed(0)
    net, images = clip_resnet(5, size).eval(), torch.rand(2, 3, size, size)
    found = net(images)
    assert found.shape == (2, 5)
    assert net.forward_features(images).shape[-1] == 2 * size // 32
    assert not torch.allclose(found, net(images.flip(3)), atol=1e-6)
