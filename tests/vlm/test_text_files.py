import json

import pytest

from dadlab.vlm.text_files import labels_in, read_captions, read_descriptions, read_image_captions

LABELS = ("owl", "garden gnome", "bag")
TEXTS = {"owl": "A round bird.", "garden gnome": "A small man, in a red cap.", "bag": 'A box with a "handle".'}
CSV = (
    'label,description\nbag,"A box with a ""handle""."\nowl,A round bird.\ngarden gnome,"A small man, in a red cap."\n'
)


@pytest.mark.parametrize("kind", ["json", "csv", "csv of a spreadsheet"])
def test_descriptions_go_by_name_not_by_row(tmp_path, kind):
    path = tmp_path / f"texts.{kind[:4].rstrip()}"
    contents = {"json": json.dumps(dict(reversed(TEXTS.items()))), "csv": CSV}
    contents["csv of a spreadsheet"] = "\ufeff" + CSV.replace("\n", "\r\n")
    path.write_text(contents[kind], encoding="utf-8", newline="")
    assert list(read_descriptions(path, LABELS).items()) == list(TEXTS.items())


def test_labels_of_a_file_are_in_its_order(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text(CSV)
    assert labels_in(path) == ["bag", "owl", "garden gnome"]


def test_captions_go_by_name(tmp_path):
    path = tmp_path / "captions.json"
    path.write_text('{"bag": ["a bag"], "owl": ["an owl", "a bird"], "hat": []}')
    texts, owner = read_captions(path, ["owl", "bag"])
    assert (texts, owner.tolist()) == (["an owl", "a bird", "a bag"], [0, 0, 1])
    with pytest.raises(ValueError, match=r"no list of captions for 'hat', 'cup'"):
        read_captions(path, ["hat", "bag", "cup"])


def test_white_space_in_a_description_is_made_plain(tmp_path):
    path = tmp_path / "texts.json"
    path.write_text('{"owl": " A round\\n\\tbird. "}')
    assert read_descriptions(path, ["owl"]) == {"owl": "A round bird."}


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_every_problem_is_named_at_once(tmp_path, kind):
    path = tmp_path / f"texts.{kind}"
    contents = {
        "json": '{"owl": "A bird.", "owl": "Another.", "bag": " ", "hat": "Round.", "owls": "Birds."}',
        "csv": "label,description\nowl,A bird.\nowl,Another.\nbag\nhat,Round.\nowls,Birds.\n",
    }
    path.write_text(contents[kind])
    with pytest.raises(ValueError, match="texts") as raised:
        read_descriptions(path, [*LABELS, "cup", "cup"])
    assert str(raised.value) == (
        f"{path}: descriptions do not fit the 4 labels; missing: 'garden gnome', 'cup'; there twice: 'owl'; "
        "unknown: 'hat', 'owls'; without text: 'bag'; twice in the label list: 'cup'"
    )


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        ("texts.json", None, "not found"),
        ("texts.json", "{", "Expecting"),
        ("texts.json", '["owl"]', "not an object"),
        ("texts.csv", "owl,A bird.\n", "columns label and description"),
        ("texts.txt", "owl", r"\.json or a \.csv"),
    ],
)
def test_unreadable_file_is_named(tmp_path, name, content, names):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=rf"{path}: .*{names}"):
        read_descriptions(path, LABELS)


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_captions_go_by_image_and_others_may_have_one(tmp_path, kind):
    path = tmp_path / f"captions.{kind}"
    contents = {"json": '{"b/2.jpg": "two", "a/1.jpg": " one\\n"}', "csv": "image,caption\nb/2.jpg,two\na/1.jpg, one\n"}
    path.write_text(contents[kind])
    found = read_image_captions(path, ["a/1.jpg"], ["a/1.jpg", "b/2.jpg", "c/3.jpg"])
    assert found == {"a/1.jpg": "one", "b/2.jpg": "two"}


def test_images_without_a_caption_are_counted_and_the_first_are_named(tmp_path):
    path = tmp_path / "captions.json"
    path.write_text('{"a/1.jpg": "one", "a/1.jpg": "uno", "b/2.jpg": [], "z.jpg": "none"}')
    images = ["a/1.jpg", "b/2.jpg", *(f"c/{k}.jpg" for k in range(8))]
    with pytest.raises(ValueError, match="captions") as raised:
        read_image_captions(path, images, images)
    assert str(raised.value) == (
        f"{path}: captions do not fit the 10 images; missing: 'c/0.jpg', 'c/1.jpg', 'c/2.jpg', 'c/3.jpg', 'c/4.jpg' "
        "and 3 more; there twice: 'a/1.jpg'; unknown: 'z.jpg'; without text: 'b/2.jpg'"
    )


def test_a_file_that_is_not_of_captions_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.json: captions not found"):
        read_image_captions(tmp_path / "none.json", [], [])
    (tmp_path / "labels.csv").write_text("label,description\nowl,A bird.\n")
    with pytest.raises(ValueError, match=r"labels.csv: .*columns image and caption"):
        read_image_captions(tmp_path / "labels.csv", [], [])
