import pytest

from dadlab.disk.folders import Names


def test_names_are_read_as_from_a_list():
    wanted = ["a/é.png", "b/\udcff.png", "c.png"]  # the second is no text to the file system
    names = Names(wanted)
    assert list(names) == wanted
    assert list(reversed(names)) == wanted[::-1]
    assert (len(names), names[1], names[-1], names[1:]) == (3, wanted[1], wanted[2], wanted[1:])
    with pytest.raises(IndexError):
        names[3]
