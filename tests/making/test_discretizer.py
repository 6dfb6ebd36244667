import pytest
import torch
from conftest import TINY_VQGAN
from published import a_class

from dadlab.discretizer import load_discretizer
from dadlab.making import discretizer as module
from dadlab.making.discretizer import PerceptualNet, adaptive_weight, train_perceptual, train_vqgan
from dadlab.making.drawings import draw
from dadlab.photos import load_photos

TINY = {**TINY_VQGAN, "n_embed": 64}


@pytest.fixture(scope="module")
def drawn():
    return draw(a_class(load_photos("val"), 1), ("studio",), seed=0)


def fit(drawn, out, steps, log=lambda line: None, **options):
    return train_vqgan(*drawn, out, config=TINY, steps=steps, batch=2, perceptual_steps=2, log=log, **options)


def test_a_few_steps_write_a_discretizer_that_loads(drawn, tmp_path):
    out = tmp_path / "vqgan.safetensors"
    vqgan = fit(drawn, out, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["vqgan.safetensors"]
    assert not vqgan.training
    images = drawn[0][:2].float() / 255
    torch.testing.assert_close(load_discretizer(str(out)).latents(images), vqgan.latents(images), atol=2e-2, rtol=2e-2)


def test_same_seed_same_bytes(drawn, tmp_path):
    for name in ("a", "b"):
        fit(drawn, tmp_path / f"{name}.safetensors", 3)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_critic_joins_at_its_time(drawn, tmp_path, monkeypatch):
    weighed = []
    real = module.adaptive_weight
    monkeypatch.setattr(module, "adaptive_weight", lambda *args: weighed.append(1) or real(*args))
    fit(drawn, tmp_path / "v.safetensors", 5, adversarial_from=0.4)
    assert len(weighed) == 3  # steps 2, 3 and 4


def test_stopped_training_goes_on_to_the_same_bytes(drawn, tmp_path, monkeypatch):
    """Stopped after the checkpoint of step 25; unused codes are revived at random again at step 30 of 45."""
    monkeypatch.setattr(module, "SAVED", 25)
    monkeypatch.setattr(module, "REVIVED", 10)
    fit(drawn, tmp_path / "calm.safetensors", 45, adversarial_from=0.9)
    save = module.save_training

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_training", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            fit(drawn, tmp_path / "stopped.safetensors", 45, adversarial_from=0.9)
    lines: list[str] = []
    fit(drawn, tmp_path / "stopped.safetensors", 45, lines.append, adversarial_from=0.9)
    assert [line.split()[1] for line in lines] == ["45/45"]
    assert (tmp_path / "stopped.safetensors").read_bytes() == (tmp_path / "calm.safetensors").read_bytes()


def test_adaptive_weight_is_the_ratio_of_gradient_norms():
    layer = torch.tensor([1.0, 2.0], requires_grad=True)
    weight = adaptive_weight((3 * layer).sum(), (layer * 0.5).sum(), layer)
    assert weight.item() == pytest.approx(6.0, rel=1e-3)
    assert not weight.requires_grad


def test_adaptive_weight_is_at_most_ten_thousand():
    layer = torch.ones(2, requires_grad=True)
    assert adaptive_weight((1e6 * layer).sum(), (layer * 0).sum(), layer) == 1e4


def test_perceptual_distance_is_zero_for_the_same_and_grows_with_blur(drawn):
    torch.manual_seed(0)
    net, images = PerceptualNet().eval(), drawn[0].float() / 255
    blurred = [torch.nn.functional.avg_pool2d(images, k, 1, k // 2) for k in (3, 9)]
    found = [net.distance(images, other).item() for other in (images, *blurred)]
    assert found[0] == 0
    assert 0 < found[1] < found[2]


def test_perceptual_net_learns_and_is_frozen(drawn):
    net = train_perceptual(*drawn, steps=40, batch=16)
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    loss = torch.nn.functional.cross_entropy(net(drawn[0].float() / 255), drawn[1])
    assert loss < torch.log(torch.tensor(10.0))


def test_styles_are_drawn_one_after_the_other():
    photos = a_class(load_photos("val"), 1)
    images, labels = draw(photos, ("studio", "sketch"), seed=0)
    assert images.shape == (20, 3, 32, 32)
    assert labels.tolist() == photos.labels.tolist() * 2
    assert torch.equal(images[:10], draw(photos, ("studio",), seed=0)[0])


def test_revived_codes_become_latents_of_the_batch(drawn, tiny_vqgan):
    vqgan = module.VQGAN(**TINY)
    pixels = drawn[0][:2].float() / 255
    before = vqgan.quantize.embedding.weight.detach().clone()
    module._revive_codes(vqgan, pixels, torch.tensor([3, 5]))
    after, latents = vqgan.quantize.embedding.weight.detach(), vqgan.latents(pixels).permute(0, 2, 3, 1).flatten(0, 2)
    kept = torch.tensor([3, 5])
    assert torch.equal(after[kept], before[kept])
    revived = [k for k in range(64) if k not in (3, 5)]
    assert torch.cdist(after[revived], latents.detach()).min(1).values.max() < 1e-3
