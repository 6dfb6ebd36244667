"""One photograph under attack: what is computed, drawn and shown."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import torch
from PIL import Image

from dadlab.attack import project
from dadlab.dataset import Dataset
from dadlab.discretizer import Identity
from dadlab.examples import discretize_adversarially, sample_generators
from dadlab.profile import Attack
from dadlab.widgets import LiveAttack, live
from dadlab.widgets.latest import Stopped
from dadlab.widgets.live_attack import read_picture

STEP = Attack("l2", 2.0, 2.0, 1)


@pytest.fixture
def subject(photos40: Dataset, tiny_teacher, tiny_vqgan) -> live.Subject:
    return live.subject(photos40.images(torch.tensor([3])), int(photos40.labels[3]), tiny_teacher, tiny_vqgan)


@pytest.fixture
def view() -> Iterator[LiveAttack]:
    made = LiveAttack()
    assert made.wait()
    yield made
    assert made.wait()


@pytest.mark.parametrize("attack", [STEP, Attack("linf", 0.1, 0.05, 3, start=1.0)])
def test_a_look_is_what_generation_makes(subject, photos40, tiny_teacher, tiny_vqgan, attack) -> None:
    found = live.look(subject, attack, 5)
    generators = sample_generators(torch.zeros(1, dtype=torch.long), 5)
    index = torch.tensor([3])
    made = discretize_adversarially(
        photos40.images(index), photos40.labels[index], tiny_teacher, tiny_vqgan, attack, generators
    )
    for stage in ("clean", "reconstructed", "perturbed", "images", "codes", "logits", "reason"):
        torch.testing.assert_close(getattr(found.made, stage), getattr(made, stage))
    for k, stage in enumerate(("clean", "reconstructed", "perturbed", "images")):
        torch.testing.assert_close(found.probabilities[k], tiny_teacher(getattr(made, stage)).softmax(1)[0])


def test_x_and_its_reconstruction_are_asked_about_once(subject, photos40, tiny_teacher, tiny_vqgan) -> None:
    calls = []
    hook = tiny_teacher.student.register_forward_hook(lambda *_: calls.append(1))
    live.look(subject, Attack("l2", 2.0, 1.0, 2), 0)
    hook.remove()
    assert len(calls) == 2 + 2, "two gradient steps, x′ and Q(x′)"


def test_without_a_step_nothing_flips(subject) -> None:
    found = live.look(subject, Attack(epsilon=1.0, steps=0), 0)
    assert set(found.flips.unique().tolist()) <= {0, 1}
    torch.testing.assert_close(found.made.perturbed, found.made.reconstructed)


def test_code_flips_tell_the_attack_from_q_itself() -> None:
    first, second, attacked = torch.tensor([[1, 1, 1]]), torch.tensor([[1, 2, 2]]), torch.tensor([[1, 2, 3]])
    assert live.code_flips(first, second, attacked).tolist() == [[0, 1, 2]]


def test_the_attack_stays_in_its_ball(subject) -> None:
    found = live.look(subject, Attack("l2", 1.0, 5.0, 3), 0)
    offset = found.made.perturbed - found.made.reconstructed
    torch.testing.assert_close(offset, project(offset, Attack("l2", 1.0001, 1.0, 1)))


def test_progress_counts_calls_and_stops_where_told(subject) -> None:
    shares: list[float] = []
    live.look(subject, Attack("l2", 1.0, 0.1, 8), 0, shares.append)
    assert shares == [k / 10 for k in range(10)]

    def tick(share: float) -> None:
        if share > 0.3:
            raise Stopped

    with pytest.raises(Stopped):
        live.look(subject, Attack("l2", 1.0, 0.1, 8), 0, tick)


def test_a_discretizer_without_codes_has_no_map(photos40, tiny_teacher) -> None:
    found = live.look(live.subject(photos40.images(torch.tensor([0])), 0, tiny_teacher, Identity()), STEP, 0)
    assert found.flips is None
    words = {text.get_text() for text in live.draw(found, photos40.classes).axes[0].texts}
    assert "this Q has\nno codes" in words


def test_without_a_label_the_teacher_gives_it(photos40, tiny_teacher, tiny_vqgan) -> None:
    images = photos40.images(torch.tensor([0]))
    assert int(live.subject(images, None, tiny_teacher, tiny_vqgan).label) == int(tiny_teacher(images).argmax())


def test_the_picture_names_stages_verdict_and_classes(subject, photos40) -> None:
    found = live.look(subject, STEP, 0)
    words = {text.get_text() for text in live.draw(found, photos40.classes).axes[0].texts}
    assert {"x", "Q(x)", "x′", "Q(x′)", "codes"} <= words
    assert any(word.startswith(("✓", "✗")) for word in words)
    assert len(words & set(photos40.classes)) == 5


def test_a_step_answers_in_time(view: LiveAttack) -> None:
    """300 ms at most. Counted in seconds of a processor, so that a busy machine does not matter."""
    seconds = []
    for epsilon in (1.0, 2.0, 3.0, 4.0, 5.0):
        started = time.process_time()
        view.epsilon.value = epsilon
        assert view.wait()
        seconds.append(time.process_time() - started)
    assert view.problem.value == ""
    assert sorted(seconds)[2] < 0.3


def test_moving_epsilon_changes_the_picture(view: LiveAttack) -> None:
    before = view.picture.value
    view.epsilon.value = 1.0
    assert view.wait()
    assert view.picture.value != before
    assert "‖x′−Q(x)‖₂ = 1.00" in view.status.value


def test_a_slider_that_moves_fast_leaves_nothing_behind(view: LiveAttack, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[float] = []
    real = live.look
    monkeypatch.setattr(
        live, "look", lambda s, attack, *rest: (looked.append(attack.epsilon), real(s, attack, *rest))[1]
    )
    for k in range(100):
        view.epsilon.value = k / 10
    assert view.wait()
    assert looked[-1] == pytest.approx(9.9)
    assert len(looked) < 50
    assert "‖x′−Q(x)‖₂" in view.status.value


def test_the_norm_brings_its_own_scale(view: LiveAttack) -> None:
    view.norm.value = "linf"
    view.epsilon.value = 16.0
    attack = view.setting().attack
    assert (attack.norm, attack.epsilon) == ("linf", pytest.approx(16 / 255))


def test_the_seed_counts_with_a_random_start_alone(view: LiveAttack) -> None:
    assert view.seed.disabled
    view.random.value = True
    assert not view.seed.disabled
    assert view.setting().attack.start == 1.0


def test_the_photograph_and_its_class_can_be_chosen(view: LiveAttack, photos40: Dataset) -> None:
    assert view.index.max == 999
    view.index.value = 5
    assert view.wait()
    first = view.status.value
    view.label.value = next(value for name, value in view.label.options if name == "bag")
    assert view.wait()
    assert "y = bag" in view.status.value
    assert view.status.value != first


def test_a_missing_model_is_told_in_the_view(tmp_path: Path) -> None:
    view = LiveAttack(teachers=["resnet", str(tmp_path / "none.safetensors")])
    assert view.wait()
    assert view.problem.value == ""
    view.teacher.value = str(tmp_path / "none.safetensors")
    assert view.wait()
    assert "weights not found" in view.problem.value
    assert 'role="alert"' in view.problem.value
    view.teacher.value = "resnet"
    assert view.wait()
    assert view.problem.value == ""


def test_files_that_come_and_go_are_noticed(tmp_path: Path) -> None:
    for place in ("train/bag", "train/shirt", "val/bag", "val/shirt"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (32, 32), "red").save(tmp_path / place / "b.png")
    view = LiveAttack(str(tmp_path))
    assert view.wait()
    assert (view.problem.value, view.index.max) == ("", 1)
    Image.new("RGB", (32, 32), "blue").save(tmp_path / "val" / "bag" / "a.png")  # the first photograph now
    view.refresh()
    assert view.wait()
    assert view.index.max == 2
    assert view._look.made.clean[0, 2].min() == 1


def upload(content: bytes) -> tuple[dict[str, object], ...]:
    return (
        {
            "name": "a",
            "type": "",
            "size": len(content),
            "content": memoryview(content),
            "last_modified": datetime.now(),
        },
    )


def test_an_own_picture_is_looked_at_and_left_again(view: LiveAttack) -> None:
    before = view.status.value
    buffer = io.BytesIO()
    Image.new("RGB", (50, 40), "red").save(buffer, "PNG")
    view.upload.set_trait("value", upload(buffer.getvalue()))
    assert view.wait()
    assert view.problem.value == ""
    assert view.status.value != before
    assert view.index.disabled
    view.back.click()
    assert view.wait()
    assert not view.index.disabled


def test_a_file_that_is_no_picture_is_told(view: LiveAttack) -> None:
    view.upload.set_trait("value", upload(b"no picture"))
    assert view.wait()
    assert "no picture that can be read" in view.problem.value


def test_an_upload_is_cropped_to_its_middle() -> None:
    buffer = io.BytesIO()
    image = Image.new("RGB", (64, 32), "red")
    image.paste("blue", (16, 0, 48, 32))
    image.save(buffer, "PNG")
    found = read_picture(buffer.getvalue(), 32)
    assert found.shape == (1, 3, 32, 32)
    assert found[0, 2].min() == 1


def test_the_static_figure_is_what_is_shown(view: LiveAttack) -> None:
    view.epsilon.value = 0.0
    words = {text.get_text() for text in view.figure().axes[0].texts}
    assert "0/256" in words


def test_a_slow_model_shows_progress_and_can_be_cancelled(view: LiveAttack, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(subject: live.Subject, attack: Attack, seed: int, tick) -> live.Look:
        for k in range(1000):
            tick(k / 1000)
            time.sleep(0.01)
        raise AssertionError("was not stopped")

    monkeypatch.setattr(live, "look", slow)
    view.epsilon.value = 1.5
    time.sleep(0.9)
    assert view.work.layout.visibility == "visible"
    assert view.bar.value > 0
    stop = next(child for child in view.work.children if child.description == "cancel")
    stop.click()
    assert view.wait(5)
    assert view.work.layout.visibility == "hidden"
    assert view.problem.value == ""
