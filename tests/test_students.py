import pytest
import timm
import torch
from timm.layers import DropPath
from torch.utils.flop_counter import FlopCounterMode

from dadlab.files import save_weights
from dadlab.students import (
    STUDENTS,
    Student,
    begin_student,
    check_start,
    load_student,
    plain_attention,
    save_student,
)


@pytest.mark.parametrize("size", [32, 48])
@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_maps_images_to_logits(name, size):
    assert Student(name, 7, size)(torch.rand(2, 3, size, size)).shape == (2, 7)


def test_any_timm_model_is_a_student():
    assert Student("resnet10t", 4, 32).eval()(torch.rand(1, 3, 32, 32)).shape == (1, 4)


def test_students_grow_in_the_papers_order():
    """By operations an image, as ResNet34, ViT-S, ResNet50 and ViT-B do by parameters."""
    operations = []
    for name in ("resnet_s", "vit_s", "resnet_m", "vit_m"):
        student = Student(name, 10).eval()
        with FlopCounterMode(display=False) as counted:
            student(torch.rand(1, 3, 32, 32))
        operations.append(counted.get_total_flops() / 1e6)
        assert sum(p.numel() for p in student.parameters()) < 3_000_000
    assert operations == pytest.approx([25, 58, 97, 154], abs=0.6)


def test_normalisation_belongs_to_the_model():
    student = Student("resnet_s", 3).eval()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(student(images), student.net((images - 0.5) / 0.25))


def test_other_sizes_are_resized_by_the_model():
    assert Student("vit_s", 3, 32)(torch.rand(2, 3, 50, 50)).shape == (2, 3)


@pytest.mark.parametrize("name", ["resnet_s", "vit_s"])
def test_saved_student_comes_back_exactly(tmp_path, name):
    torch.manual_seed(0)
    student = Student(name, 5, 32).eval()
    save_student(tmp_path / "s.safetensors", student)
    found = load_student(tmp_path / "s.safetensors")
    images = torch.rand(2, 3, 32, 32)
    assert (found.name, found.classes, found.training) == (name, 5, False)
    assert torch.equal(found(images), student(images))


def test_plain_attention_gives_the_same_logits_without_a_fused_kernel():
    images = torch.rand(2, 3, 32, 32)
    student = Student("vit_s", 10).eval()
    expected = student(images)
    plain_attention(student)
    with torch.profiler.profile() as profiler:
        found = student(images)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert not [event.key for event in profiler.key_averages() if "scaled_dot_product" in event.key]


@pytest.mark.parametrize(("name", "hint"), [("resnet_x", "resnet_s"), ("vit_l", "vit_s"), ("qqq", "resnet_s")])
def test_unknown_student_names_those_there_are(name, hint):
    with pytest.raises(ValueError, match=rf"unknown student '{name}'.*{hint}"):
        Student(name, 10)


def test_file_of_something_else_is_named(tmp_path):
    save_weights(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {"embed_dim": 3})
    with pytest.raises(ValueError, match=r"other\.safetensors: holds no student; .*student\.safetensors"):
        load_student(tmp_path / "other.safetensors")


@pytest.mark.parametrize("name", ["resnet_s", "vit_s", "resnet10t", "test_vit"])
def test_dropout_and_stochastic_depth_are_off_unless_asked_for(name):
    """Dropout makes two passes differ, in training alone; stochastic depth rises with depth."""
    images = torch.rand(2, 3, 32, 32)
    for rates, differ in (({}, False), ({"dropout": 0.5}, True), ({"drop_path": 0.5}, True)):
        student = Student(name, 5, 32, **rates)
        for part in student.modules():  # timm begins with branches that add nothing
            if isinstance(part, torch.nn.BatchNorm2d):
                torch.nn.init.ones_(part.weight)
        torch.manual_seed(0)
        assert any(not torch.equal(student(images), student(images)) for _ in range(3)) == differ
        student.eval()
        assert torch.equal(student(images), student(images))
    paths = [part.drop_prob for part in student.modules() if isinstance(part, DropPath)]
    assert paths == sorted(paths)
    assert paths[-1] == pytest.approx(0.5)


def test_a_vits_dropout_is_after_its_positions_and_in_every_block():
    student = Student("vit_s", 5, 32, dropout=0.1)
    dropped = {name for name, part in student.named_modules() if isinstance(part, torch.nn.Dropout) and part.p == 0.1}
    block = {"attn.proj_drop", "mlp.drop1", "mlp.drop2"}
    assert dropped == {"net.pos_drop"} | {f"net.blocks.{depth}.{place}" for depth in range(4) for place in block}


@pytest.fixture
def begun(tmp_path):
    torch.manual_seed(1)
    save_student(tmp_path / "run.safetensors", Student("vit_s", 7, 32), half=True)
    return str(tmp_path / "run.safetensors")


def test_a_start_brings_everything_but_a_head_of_other_classes(begun):
    known = load_student(begun).state_dict()
    for classes in (7, 3):
        torch.manual_seed(2)
        found = begin_student("vit_s", classes, 32, start=begun).state_dict()
        same = {name for name, value in found.items() if torch.equal(value, known[name])}
        assert known.keys() - same == (set() if classes == 7 else {"net.head.weight", "net.head.bias"})


@pytest.mark.parametrize(
    ("told", "asked", "kept"),
    [("abc", "abc", True), ("abc", "acb", False), ("abc", "xyz", False), ("", "abc", True), ("abc", "", True)],
)
def test_a_start_brings_the_head_of_its_own_classes_alone(tmp_path, told, asked, kept):
    """Where both sides know their names."""
    path = tmp_path / "run.safetensors"
    save_student(path, Student("vit_s", 3, names=told))
    known = load_student(path)
    assert known.names == tuple(told)
    found = begin_student("vit_s", 3, 32, start=str(path), names=asked)
    assert found.names == tuple(asked)
    assert torch.equal(found.net.head.weight, known.net.head.weight) == kept


def test_a_distilled_transformer_has_two_heads(tmp_path):
    name, path = "deit_tiny_distilled_patch16_224", tmp_path / "run.safetensors"
    save_student(path, Student(name, 7, 224), half=True)
    known = load_student(path).state_dict()
    for classes in (7, 3):
        torch.manual_seed(2)
        found = begin_student(name, classes, 224, start=str(path)).state_dict()
        new = {key for key, value in found.items() if not torch.equal(value, known[key])}
        heads = {"net.head.weight", "net.head.bias", "net.head_dist.weight", "net.head_dist.bias"}
        assert new == (set() if classes == 7 else heads)


def test_a_start_brings_the_pixels_it_is_used_to(tmp_path):
    pixels = ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1))
    save_student(tmp_path / "run.safetensors", Student("vit_s", 7, 32, pixels=pixels))
    found = begin_student("vit_s", 7, 32, start=str(tmp_path / "run.safetensors")).preprocess
    assert [*found.mean.flatten().tolist(), *found.std.flatten().tolist()] == pytest.approx(sum(pixels, ()))


@pytest.mark.parametrize(
    ("name", "start", "names"),
    [
        ("vit_m", "RUN", "weights of vit_s, not of vit_m; give the student.safetensors of a run of vit_m"),
        ("vit_s", "none.safetensors", "none.safetensors: weights not found"),
        ("test_vit2x", "pretrained", "unknown student|publishes no weights"),
    ],
)
def test_other_starts_are_refused(begun, name, start, names):
    with pytest.raises(ValueError, match=names):
        check_start(name, begun if start == "RUN" else start)
    check_start("vit_s", begun)
    check_start("vit_s", "")


def test_another_image_size_is_refused(begun):
    with pytest.raises(
        ValueError, match=r"weights of another student or image size \(1 misshapen, first net.pos_embed"
    ):
        begin_student("vit_s", 7, 48, start=begun)


def test_published_weights_bring_their_pixels(tmp_path, monkeypatch):
    """timm's own file, as its hub would give it; offline, the reason is told."""
    torch.manual_seed(0)
    published = timm.create_model("test_resnet", num_classes=1000)
    torch.save(published.state_dict(), tmp_path / "weights.pth")
    real = timm.create_model
    overlay = {"file": str(tmp_path / "weights.pth"), "hf_hub_id": None, "mean": (0.1, 0.2, 0.3)}
    monkeypatch.setattr(
        timm, "create_model", lambda name, **options: real(name, pretrained_cfg_overlay=overlay, **options)
    )
    student = begin_student("test_resnet", 4, 32, start="pretrained").eval()
    assert torch.equal(student.net.conv1[0].weight, published.conv1[0].weight)
    assert student.net.get_classifier().out_features == 4
    save_student(tmp_path / "s.safetensors", student)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(load_student(tmp_path / "s.safetensors")(images), student(images))
    assert student.preprocess.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    overlay["file"] = str(tmp_path / "gone.pth")
    with pytest.raises(ValueError, match="start 'pretrained': timm's weights of test_resnet cannot be fetched"):
        begin_student("test_resnet", 4, 32, start="pretrained")


def test_embedded_weights_that_are_not_there_are_said(monkeypatch, tmp_path):
    monkeypatch.setattr("dadlab.students.ASSETS", tmp_path)
    with pytest.raises(
        ValueError, match=r"start 'pretrained': no weights of resnet_s are embedded; `dadlab.making.pretrain`"
    ):
        check_start("resnet_s", "pretrained")
