import shutil

import pytest
import torch
from torch import nn

from dadlab.compute import Compute, Tower, compile_towers, compute_on, largest_batch, mixed, share_memory, with_towers
from dadlab.compute import precision as training_precision
from dadlab.discretizer import VQGAN, Identity
from dadlab.teacher import load_teacher

LOW = Compute("bfloat16", compiled=False)


def test_a_cpu_is_left_alone(tiny_teacher):
    compute = compute_on(torch.device("cpu"))
    assert with_towers(tiny_teacher, compute) is tiny_teacher


@pytest.mark.parametrize(("capable", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_computes_in_bfloat16_unless_it_must_emulate_it(capable, precision, monkeypatch):
    """A V100 and a T4 emulate it, which is slower than float32."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: capable or including_emulation
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    assert compute_on(torch.device("cuda")).precision == precision
    assert training_precision() == ("bf16" if capable else "no")


@pytest.mark.parametrize(("there", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_training_on_a_cpu_is_mixed_where_it_has_the_instructions(there, dtype, monkeypatch):
    """Without them bfloat16 is emulated, which is slower than float32."""
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": there})
    with mixed("cpu"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


@pytest.mark.parametrize(
    ("there", "named", "compiled"), [("gcc", "", True), ("", "", False), ("icx", "icx", True), ("icx", "", False)]
)
def test_a_gpu_without_a_compiler_beside_it_computes_uncompiled(there, named, compiled, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == there else None)
    monkeypatch.setenv("CC", named)
    assert compute_on(torch.device("cuda")) == Compute("bfloat16", compiled=compiled)


@torch.no_grad()
def test_clip_keeps_its_head_and_its_scale_in_float32(photos40):
    teacher = load_teacher("resnet")
    low = with_towers(teacher, LOW)
    images = photos40.images(torch.arange(40))
    assert {p.dtype for p in low.clip.visual.parameters()} == {torch.bfloat16}
    assert low.text_features.dtype == low.clip.logit_scale.dtype == torch.float32
    assert {p.dtype for p in teacher.parameters()} == {torch.float32}, "the teacher itself must stay as it is"
    full, found = teacher(images), low(images)
    assert found.dtype == torch.float32
    assert (found - full).abs().max() < 0.05 * full.abs().max()
    assert (found.argmax(1) == full.argmax(1)).double().mean() > 0.9


@torch.no_grad()
def test_the_codebook_search_stays_in_float32(tiny_vqgan, photos40):
    low = with_towers(tiny_vqgan, LOW)
    images = photos40.images(torch.arange(8))
    assert isinstance(low, VQGAN)
    assert low.quantize.embedding.weight.dtype == low.latents(images).dtype == torch.float32
    assert (low.encode(images) == tiny_vqgan.encode(images)).double().mean() > 0.97
    codes = tiny_vqgan.encode(images)
    torch.testing.assert_close(low.decode(codes), tiny_vqgan.decode(codes), atol=0.05, rtol=0)


def test_towers_alone_are_compiled_for_one_batch_size(tiny_vqgan, monkeypatch):
    compiled = []
    monkeypatch.setattr(Tower, "compile", lambda tower, **options: compiled.append((tower, options)))
    fast = with_towers(tiny_vqgan, LOW)
    compile_towers(fast)
    assert compiled == [(fast.encoder, {"dynamic": False}), (fast.decoder, {"dynamic": False})]


def test_gradients_pass_a_tower(tiny_teacher, photos40):
    low = with_towers(tiny_teacher, LOW)
    gradients = []
    for teacher in (tiny_teacher, low):
        images = photos40.images(torch.arange(8)).requires_grad_()
        nn.functional.cross_entropy(teacher(images), photos40.labels[:8], reduction="sum").backward()
        gradients.append(images.grad.flatten(1))
    assert torch.cosine_similarity(*gradients).min() > 0.95


def test_a_model_without_known_tower_stays_in_float32():
    assert {p.dtype for p in with_towers(nn.Linear(2, 2), LOW).parameters()} == {torch.float32}
    assert isinstance(with_towers(Identity(), LOW), Identity)


def test_the_largest_batch_that_fits():
    tried = []

    def attempt(batch: int) -> None:
        tried.append(batch)
        if batch > 40:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    assert largest_batch(attempt, 64) == 32
    assert tried == [64, 32]


def test_other_errors_are_not_taken_for_memory():
    def attempt(batch: int) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        largest_batch(attempt)


def test_nothing_fits():
    def attempt(batch: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(ValueError, match="not one sample fits"):
        largest_batch(attempt, 1)


@pytest.mark.parametrize(("device", "processes", "parts"), [("cuda:1", 3, [0.3]), ("cuda:1", 1, []), ("cpu", 3, [])])
def test_processes_on_one_gpu_keep_to_their_parts(device, processes, parts, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *given: asked.append(given))
    share_memory(torch.device(device), processes)
    assert asked == [(pytest.approx(part), torch.device(device)) for part in parts]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"precision": "bf16"}, "'bfloat16' or 'float32'"), ({"batch": -1}, "not be negative"), ({"batch": 1.5}, "int")],
)
def test_bad_settings_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        Compute(**change)
