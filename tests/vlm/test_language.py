import warnings

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from dadlab.captions import CONTEXT_LENGTH, tokenizer
from dadlab.teacher import load_teacher, zero_shot_head
from dadlab.vlm.language import (
    cut_texts,
    enriched,
    prompts,
    random_words,
    shuffled,
    text_features,
)

LABELS = ("owl", "garden gnome", "bag")
TEXTS = {"owl": "A round bird.", "garden gnome": "A small man, in a red cap.", "bag": 'A box with a "handle".'}


def test_enriched_prompt_is_one_string():
    assert prompts(enriched(["owl"], TEXTS)) == ["a photo of owl . A round bird."]


def test_join_is_what_stands_between_name_and_description():
    assert enriched(["owl"], TEXTS, join=", ") == ["owl, A round bird."]


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_descriptions_are_all_there_and_none_in_its_place(seed):
    found = shuffled(TEXTS, seed=seed)
    assert list(found) == list(TEXTS)
    assert sorted(found.values()) == sorted(TEXTS.values())
    assert not [label for label in TEXTS if found[label] == TEXTS[label]]


def test_random_words_keep_lengths_and_vocabulary():
    found = random_words(TEXTS, seed=0)
    assert {label: len(text.split()) for label, text in found.items()} == {"owl": 3, "garden gnome": 7, "bag": 5}
    assert {w for text in found.values() for w in text.split()} <= {w for text in TEXTS.values() for w in text.split()}
    assert found == random_words(TEXTS, seed=0) != random_words(TEXTS, seed=1)
    assert found["owl"] == "small man, in", "in every process, whatever order its sets have"


def test_braces_in_a_description_stay():
    assert prompts(enriched(["owl"], {"owl": "like {} or {0}"})) == ["a photo of owl . like {} or {0}"]


@pytest.mark.parametrize("template", ["a photo", "a {} of {}"])
def test_template_needs_one_place(template):
    with pytest.raises(ValueError, match=r"exactly one \{\}"):
        prompts(LABELS, template)


@pytest.mark.parametrize("encode", [tokenizer(), SimpleTokenizer()], ids=["embedded", "CLIP"])
def test_texts_are_cut_from_the_first_token_too_many(encode):
    limit = encode.context_length
    fitting, cut, long = ("x " * count for count in (limit - 2, limit - 1, 3 * limit))
    assert [tuple(found) for found in cut_texts(encode, [fitting, cut, "", long])] == [
        (cut, limit + 1, limit),
        (long, 3 * limit + 2, limit),
    ]


class Words:
    """A tokenizer of another family: one token a word, its own padding, with an end token or without."""

    def __init__(self, end: list[int], padding: int):
        self.end, self.padding = end, padding

    def __call__(self, texts: list[str], context_length: int = 6) -> torch.Tensor:
        rows = []
        for text in texts:
            words = [7 + len(word) for word in text.split()][: context_length - len(self.end)]
            rows.append((words + self.end + context_length * [self.padding])[:context_length])
        return torch.tensor(rows)


@pytest.mark.parametrize(
    ("encode", "room"),
    [(Words([1], 0), 5), (Words([1], 1), 5), (Words([], 0), 6)],
    ids=["end and padding", "padded with the end", "no end"],
)
def test_tokenizers_of_other_families_are_understood(encode, room):
    cut = cut_texts(encode, ["a " * room, "a " * (room + 1), "", "b " * 20])
    assert [found.text[0] for found in cut] == ["a", "b"]
    assert cut[0] == ("a " * (room + 1), 7, 6)


def test_texts_too_long_to_count_are_still_reported():
    assert [found.limit for found in cut_texts(tokenizer(), ["x " * 1000])] == [CONTEXT_LENGTH]


def test_no_texts_no_cuts():
    assert cut_texts(tokenizer(), []) == []


@pytest.fixture(scope="module")
def clip():
    return load_teacher("resnet").clip


def test_features_are_those_of_the_zero_shot_head(clip):
    head = zero_shot_head(clip, tokenizer(), LABELS, ("a photo of {}",))
    torch.testing.assert_close(text_features(clip, tokenizer(), prompts(LABELS), batch=2), head)


def test_cut_texts_are_reported(clip):
    texts = ["a bag", "a " * 30, "a " * 40]
    with pytest.warns(
        UserWarning, match=r"2 of 3 texts exceed the text encoder's 24 tokens.*the longest has 42"
    ) as said:
        text_features(clip, tokenizer(), texts)
    assert said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text_features(clip, tokenizer(), texts[:1])
