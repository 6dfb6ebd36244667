import pytest

from dadlab import tracking
from dadlab.tracking import tracker_name


@pytest.fixture
def installed(monkeypatch):
    def set_to(*names):
        monkeypatch.setattr(tracking, "get_available_trackers", lambda: list(names))

    return set_to


def test_none_by_default(installed):
    installed("tensorboard")
    assert tracker_name("") is None


def test_auto_is_tensorboard_where_it_is_installed(installed, capsys):
    installed("tensorboard")
    assert tracker_name("auto") == "tensorboard"
    installed()
    assert tracker_name("auto") is None
    assert "TensorBoard is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "says"),
    [("tensorbord", "unknown tracker 'tensorbord': did you mean 'tensorboard'"), ("wandb", "pip install wandb")],
)
def test_bad_trackers_are_named(installed, name, says):
    installed("tensorboard")
    with pytest.raises(ValueError, match=says):
        tracker_name(name)
