import pytest
import torch

from dadlab.diffusion import SmallDiffusion, load_diffusion
from dadlab.making import diffusion as module
from dadlab.making.diffusion import denoising_loss, train_diffusion

TINY = {"classes": 10, "image_size": 32, "widths": [16, 16]}


def stop(line: str) -> None:
    raise KeyboardInterrupt


def test_training_writes_what_loads_and_resumes_to_the_same_bytes(monkeypatch, photos40, tmp_path):
    monkeypatch.setattr(module, "SAVED", 1)
    pixels, labels = photos40.pixels, photos40.labels
    given = {"config": TINY, "batch": 4, "log": lambda line: None}
    train_diffusion(pixels, labels, tmp_path / "a.safetensors", steps=2, **given)
    with pytest.raises(KeyboardInterrupt):  # after the first step of two
        train_diffusion(pixels, labels, tmp_path / "b.safetensors", steps=2, **{**given, "log": stop})
    assert (tmp_path / "b.ckpt").is_file()
    train_diffusion(pixels, labels, tmp_path / "b.safetensors", steps=2, **given)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]
    assert load_diffusion(f"diffusion:{tmp_path / 'a.safetensors'}")(photos40.images(torch.arange(1))).isfinite().all()


def test_loss_of_a_model_that_says_nothing_is_the_velocitys_power(photos40):
    """v = √ᾱ·ε − √(1−ᾱ)·x₀ has power ᾱ + (1−ᾱ)·E x₀² a value."""
    model = SmallDiffusion(**TINY)
    model.velocity = lambda noisy, times, labels: torch.zeros_like(noisy)
    images, shares = photos40.images(torch.arange(40)), model.scheduler.alphas_cumprod
    torch.manual_seed(0)
    found = torch.stack([denoising_loss(model, images, photos40.labels) for _ in range(20)]).mean()
    power = model.grid(images).square().mean()
    assert found == pytest.approx(float((shares + (1 - shares) * power).mean()), rel=0.05)


def test_a_share_of_the_classes_is_hidden_and_the_average_is_kept(monkeypatch, photos40, tmp_path):
    shown, averaged, real = [], [], module.denoising_loss
    monkeypatch.setattr(module, "denoising_loss", lambda *given: shown.append(given[2]) or real(*given))
    update = module.AveragedModel.update_parameters
    monkeypatch.setattr(
        module.AveragedModel, "update_parameters", lambda average, net: update(average, net) or averaged.append(average)
    )
    given = {"config": TINY, "batch": 40, "log": lambda line: None}
    model = train_diffusion(photos40.pixels, photos40.labels, tmp_path / "a.safetensors", steps=3, **given)
    hidden = (torch.cat(shown) == 10).float().mean()
    assert 0.1 < hidden < 0.3
    expected = averaged[-1].module.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.unet.state_dict().items())


def test_a_model_that_knows_the_images_has_no_loss(photos40):
    """Noise follows from what is shown, ε = (x_t − √ᾱ·x₀) / √(1−ᾱ), and the velocity from it."""
    model, images = SmallDiffusion(**TINY), photos40.images(torch.arange(40))
    clean = model.grid(images)

    def knowing(noisy, times, labels):
        share = model.scheduler.alphas_cumprod[times].view(-1, 1, 1, 1)
        noise = (noisy - share.sqrt() * clean) / (1 - share).sqrt()
        return share.sqrt() * noise - (1 - share).sqrt() * clean

    model.velocity = knowing
    torch.manual_seed(0)
    assert float(denoising_loss(model, images, photos40.labels)) < 1e-6
