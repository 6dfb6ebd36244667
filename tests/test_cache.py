import numpy as np
import pytest
import torch

from dadlab.cache import cache_teacher, teacher_logits
from dadlab.students import Student
from dadlab.teacher import StudentTeacher
from dadlab.views import augment


class Forbidden(StudentTeacher):
    """A teacher that must not be run."""

    def forward(self, images):
        raise AssertionError("the teacher was run")


@pytest.fixture
def forbidden(tiny_student):
    return Forbidden(tiny_student)


def test_equals_the_teacher_up_to_half_precision(photos40, tiny_teacher, tmp_path):
    cache = cache_teacher(photos40, tiny_teacher, tmp_path, views=3)
    rows = torch.tensor([7, 0, 31, 7])
    for view in range(3):
        expected = tiny_teacher(augment(photos40.images(rows), rows, view))
        found = cache(rows, view)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_views_differ(photos40, tiny_teacher, tmp_path):
    cache = cache_teacher(photos40, tiny_teacher, tmp_path, views=2)
    assert cache.views == 2
    assert not torch.equal(cache(torch.arange(40), 0), cache(torch.arange(40), 1))


@pytest.mark.parametrize("batch", [1, 7, 40, 64])
def test_any_batch_size_gives_the_same_logits(photos40, tiny_teacher, batch):
    expected = teacher_logits(photos40, tiny_teacher, 0, 16)
    torch.testing.assert_close(teacher_logits(photos40, tiny_teacher, 0, batch), expected)


def test_found_again_without_running_the_teacher(photos40, tiny_teacher, forbidden, tmp_path):
    made = cache_teacher(photos40, tiny_teacher, tmp_path, views=2)
    found = cache_teacher(photos40, forbidden, tmp_path, views=2)
    assert torch.equal(found(torch.arange(40), 1), made(torch.arange(40), 1))


def test_resumes_with_the_missing_view_alone(photos40, tiny_teacher, tmp_path, monkeypatch):
    cache_teacher(photos40, tiny_teacher, tmp_path, views=3)
    (home,) = tmp_path.iterdir()
    whole = {path.name: path.read_bytes() for path in home.iterdir()}
    (home / "view-001.npy").unlink()
    made = []
    monkeypatch.setattr(
        "dadlab.cache.teacher_logits", lambda d, t, view, b: made.append(view) or teacher_logits(d, t, view, b)
    )
    cache_teacher(photos40, tiny_teacher, tmp_path, views=3)
    assert made == [1]
    assert {path.name: path.read_bytes() for path in home.iterdir()} == whole


def test_more_views_add_to_the_same_folder(photos40, tiny_teacher, tmp_path):
    cache_teacher(photos40, tiny_teacher, tmp_path, views=1)
    cache_teacher(photos40, tiny_teacher, tmp_path, views=2)
    (home,) = tmp_path.iterdir()
    assert sorted(path.name for path in home.iterdir()) == ["view-000.npy", "view-001.npy"]
    assert np.load(home / "view-000.npy").shape == (40, 10)


def test_stopped_view_leaves_no_file(photos40, forbidden, tmp_path):
    with pytest.raises(AssertionError, match="the teacher was run"):
        cache_teacher(photos40, forbidden, tmp_path, views=1)
    assert not list(tmp_path.rglob("*.npy"))


def test_other_teacher_or_data_has_another_folder(photos40, tiny_teacher, tmp_path):
    torch.manual_seed(1)
    other = StudentTeacher(Student("resnet_s", 10))
    cache_teacher(photos40, tiny_teacher, tmp_path, views=1)
    cache_teacher(photos40, other, tmp_path, views=1)
    cache_teacher(photos40.take(torch.arange(20)), tiny_teacher, tmp_path, views=1)
    assert len(list(tmp_path.iterdir())) == 3
