import json
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import psutil
import pytest
import torch

from dadlab import cache as module
from dadlab.cache import asked, cache_teacher, open_cache, teacher_fingerprint
from dadlab.claims import claim
from dadlab.files import write_array, write_json
from dadlab.students import Student
from dadlab.teacher import StudentTeacher
from dadlab.views import augment


class Forbidden(StudentTeacher):
    """A teacher that must not be run, like the real one in all else."""

    def _get_name(self):
        return "StudentTeacher"

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


def first_view(dataset, teacher):
    """The teacher's logits (N, C) for the first view of every sample."""
    return asked(teacher, dataset.images(torch.arange(len(dataset)), 0))


@pytest.mark.parametrize("batch", [1, 7, 40, 64])
def test_any_batch_size_gives_the_same_logits(photos40, tiny_teacher, tmp_path, batch):
    cache = cache_teacher(photos40, tiny_teacher, tmp_path, views=1, batch=batch)
    torch.testing.assert_close(cache(torch.arange(40), 0), first_view(photos40, tiny_teacher), rtol=1e-3, atol=1e-3)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD", 16)


@pytest.mark.usefixtures("small_shards")
def test_shards_join_to_the_same_logits(photos40, tiny_teacher, tmp_path):
    cache, rows = cache_teacher(photos40, tiny_teacher, tmp_path, views=1), torch.tensor([39, 0, 16, 15, 39, 31])
    assert len(list(cache.home.glob("*.npy"))) == 3
    expected = first_view(photos40, tiny_teacher)[rows]
    torch.testing.assert_close(cache(rows, 0), expected, rtol=1e-3, atol=1e-3)


def test_found_again_without_running_the_teacher(photos40, tiny_teacher, forbidden, tmp_path):
    made = cache_teacher(photos40, tiny_teacher, tmp_path, views=2)
    found = cache_teacher(photos40, forbidden, tmp_path, views=2)
    assert torch.equal(found(torch.arange(40), 1), made(torch.arange(40), 1))


@pytest.mark.usefixtures("small_shards")
def test_resumes_with_the_missing_shard_alone(photos40, tiny_teacher, tmp_path, monkeypatch):
    home = cache_teacher(photos40, tiny_teacher, tmp_path, views=3).home
    whole = {path.name: path.read_bytes() for path in home.iterdir()}
    (home / "view-001-00002.npy").unlink()
    drawn = []
    monkeypatch.setattr(
        "dadlab.dataset.square_views",
        lambda i, index, view: drawn.append((view, index.tolist())) or augment(i, index, view),
    )
    cache_teacher(photos40, tiny_teacher, tmp_path, views=3)
    probe, *made = drawn
    assert probe == (0, [0, 10, 20, 30])
    assert made == [(1, list(range(32, 40)))]
    assert {path.name: path.read_bytes() for path in home.iterdir()} == whole


def test_more_views_add_to_the_same_folder(photos40, tiny_teacher, tmp_path):
    cache_teacher(photos40, tiny_teacher, tmp_path, views=1)
    cache_teacher(photos40, tiny_teacher, tmp_path, views=2)
    (home,) = tmp_path.iterdir()
    assert sorted(path.name for path in home.glob("*.npy")) == ["view-000-00000.npy", "view-001-00000.npy"]
    assert np.load(home / "view-000-00000.npy").shape == (40, 10)


@pytest.mark.usefixtures("small_shards")
def test_two_processes_share_the_work_and_a_dead_one_leaves_nothing_locked(
    photos40, tiny_teacher, tmp_path, monkeypatch
):
    """While this process makes the others, another holds the second shard and dies: it is made in the end."""
    real, made = write_array, []
    other = claim(open_cache(photos40, teacher_fingerprint(tiny_teacher), tmp_path, views=1).path(0, 1))
    assert other.__enter__()

    def write(path, rows):
        made.append(path.name)
        real(path, rows)
        if len(made) == 2:
            other.__exit__(None, None, None)

    monkeypatch.setattr(module, "write_array", write)
    cache = cache_teacher(photos40, tiny_teacher, tmp_path, views=1)
    assert made == [f"view-000-0000{shard}.npy" for shard in (0, 2, 1)]
    assert cache(torch.arange(40), 0).shape == (40, 10)
    assert not list(cache.home.glob(".*"))


def test_waiting_for_another_is_said(photos40, tiny_teacher, tmp_path, capsys):
    other = claim(open_cache(photos40, teacher_fingerprint(tiny_teacher), tmp_path, views=1).path(0, 0))
    assert other.__enter__()
    threading.Timer(0.1, other.__exit__, (None, None, None)).start()
    cache_teacher(photos40, tiny_teacher, tmp_path, views=1)
    waits = "teacher on val, shards of views: waiting for 1 that other processes have claimed"
    assert waits in capsys.readouterr().out


def test_answers_that_half_precision_cannot_hold_are_not_kept(photos40, tiny_teacher, tmp_path):
    class Loud(StudentTeacher):
        def forward(self, images):
            return 1e9 * super().forward(images)

    with pytest.raises(ValueError, match="the teacher's answers overflow half precision"):
        cache_teacher(photos40, Loud(tiny_teacher.student), tmp_path, views=1)
    assert not list(tmp_path.rglob("view-*.npy"))


def test_views_drawn_differently_make_a_cache_stale(photos40, tiny_teacher, tmp_path, monkeypatch):
    cache_teacher(photos40, tiny_teacher, tmp_path, views=1)
    monkeypatch.setattr("dadlab.dataset.square_views", lambda images, index, view: images.flip(3) * 0.5)
    with pytest.raises(ValueError, match="stale: the views of these samples are drawn differently today; delete it"):
        cache_teacher(photos40, tiny_teacher, tmp_path, views=1)


def test_who_comes_second_is_held_to_the_first_ones_manifest(photos40, tiny_teacher, tmp_path):
    """Two processes begin one cache at once: the second waits for the first's manifest, and reads it."""
    home = cache_teacher(photos40, tiny_teacher, tmp_path, views=1).home
    (home / "manifest.json").unlink()
    other = {"samples": 41, "classes": 10, "probe": []}

    def first() -> None:
        with claim(home / "manifest.json") as mine:
            held.set()
            time.sleep(0.2)
            assert mine
            write_json(home / "manifest.json", other)

    held = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    held.wait()
    with pytest.raises(ValueError, match="stale"):
        cache_teacher(photos40, tiny_teacher, tmp_path, views=1)
    thread.join()
    assert json.loads((home / "manifest.json").read_text()) == other


def test_torn_shard_is_named(photos40, tiny_teacher, tmp_path):
    cache = cache_teacher(photos40, tiny_teacher, tmp_path, views=1)
    cache.path(0, 0).write_bytes(cache.path(0, 0).read_bytes()[:300])
    with pytest.raises(ValueError, match=r"view-000-00000\.npy: unreadable shard .*delete it"):
        cache_teacher(photos40, tiny_teacher, tmp_path, views=1)(torch.arange(4), 0)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("top", [0, 3])
def test_shards_are_read_without_holding_files_open(photos40, tiny_teacher, tmp_path, top):
    """ImageNet's are 632 a stream, and a process may have 1,024 files."""
    cache = cache_teacher(photos40, tiny_teacher, tmp_path, views=4, top=top)
    before = psutil.Process().num_fds()
    for view in range(4):
        cache(torch.arange(40), view)
    assert len(cache._open) == 12
    assert psutil.Process().num_fds() == before


def test_stopped_view_leaves_no_file(photos40, forbidden, tmp_path):
    with pytest.raises(AssertionError, match="the teacher was run"):
        cache_teacher(photos40, forbidden, tmp_path, views=1)
    assert not list(tmp_path.rglob("*.npy"))


def test_other_teacher_preprocessing_or_data_has_another_folder(photos40, tiny_teacher, tmp_path):
    torch.manual_seed(1)
    other = StudentTeacher(Student("resnet_s", 10))
    resized = StudentTeacher(Student("resnet_s", 10, 16))
    resized.load_state_dict(tiny_teacher.state_dict())
    darker = StudentTeacher(Student("resnet_s", 10, pixels=((0.4,) * 3, (0.25,) * 3)))
    darker.load_state_dict(tiny_teacher.state_dict())
    for teacher in (tiny_teacher, other, resized, darker):
        cache_teacher(photos40, teacher, tmp_path, views=1)
    cache_teacher(photos40.take(torch.arange(20)), tiny_teacher, tmp_path, views=1)
    assert len(list(tmp_path.iterdir())) == 5


def test_what_is_kept_of_the_logits_has_its_own_folder(photos40, tiny_teacher, tmp_path):
    for how in ({}, {"top": 3}, {"top": 4}, {"top": 3, "temperature": 4.0}):
        cache_teacher(photos40, tiny_teacher, tmp_path, views=1, **how)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_killed_process_leaves_nothing_in_the_cache(photos40, tiny_teacher, tmp_path, monkeypatch):
    def killed(out, rows):
        out.write(b"half")
        out.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    def contents(name):
        home = cache_teacher(photos40, tiny_teacher, tmp_path / name, views=2).home
        return {path.name: path.read_bytes() for path in home.iterdir()}

    monkeypatch.setattr(module, "SHARD", 16)
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", killed)
        given = (photos40, tiny_teacher, tmp_path / "killed")
        process = multiprocessing.get_context("fork").Process(target=cache_teacher, args=given, kwargs={"views": 2})
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    half = next((tmp_path / "killed").glob("*/.view-000-00000.npy.*"))
    (half.parent / ".manifest.json.half").touch()
    assert contents("killed") == contents("undisturbed")


def test_readers_see_one_stream_of_all_shards(photos40, tiny_teacher, tmp_path, monkeypatch):
    """Processes that read ahead are started once, and read the next shard while one is computed."""
    monkeypatch.setattr(module, "SHARD", 16)
    monkeypatch.setattr(module, "usual_workers", lambda: 2)
    started, real = [], module.ahead
    monkeypatch.setattr(module, "ahead", lambda *given: started.append(1) or real(*given))
    ahead_of_it = []
    monkeypatch.setattr(
        module, "clear", lambda path: ahead_of_it.append(sorted(p.name for p in path.parent.glob(".view-*.claim")))
    )
    cache = cache_teacher(photos40, tiny_teacher, tmp_path, views=2, batch=8)
    assert len(started) == 1
    assert all(len(claims) > 1 for claims in ahead_of_it[:3])
    for view in range(2):
        expected = tiny_teacher(augment(photos40.images(torch.arange(40)), torch.arange(40), view))
        torch.testing.assert_close(cache(torch.arange(40), view), expected, rtol=1e-3, atol=1e-3)
    assert not list(cache.home.glob(".*"))
