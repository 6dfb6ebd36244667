import gzip
from collections import Counter

import numpy as np
import pytest

from dadlab import captions
from dadlab.captions import DESCRIPTIONS, TEMPLATES, ZERO_SHOT_TEMPLATES, caption, learn_merges, tokenizer, write_merges
from dadlab.photos import ASSETS, CLASSES


def drawn(label: int, colour: str, style: str, count: int = 200) -> list[str]:
    rng = np.random.default_rng(0)
    return [caption(label, colour, style, rng=rng) for _ in range(count)]


@pytest.mark.parametrize("style", TEMPLATES)
def test_every_caption_is_a_template_of_its_style_with_the_garment(style):
    starts = [template.replace("{}", noun) for template in TEMPLATES[style] for noun in ("coat", "red coat")]
    assert all(any(text.startswith(start) for start in starts) for text in drawn(4, "red", style))


def test_colour_and_description_are_sometimes_named():
    texts = drawn(4, "red", "studio")
    assert 0.3 < np.mean(["red coat" in text for text in texts]) < 0.7
    assert 0.1 < np.mean([any(more in text for more in DESCRIPTIONS["coat"]) for text in texts]) < 0.4


def test_no_colour_no_double_space():
    assert not any("  " in text for text in drawn(9, "", "sketch"))


def test_same_random_state_same_captions():
    assert drawn(1, "teal", "context") == drawn(1, "teal", "context")


def test_every_class_is_described_and_every_template_has_one_place():
    assert set(DESCRIPTIONS) == set(CLASSES)
    assert all(template.count("{}") == 1 for template in ZERO_SHOT_TEMPLATES)


def test_merges_by_hand():
    # "ab" occurs 5 times, then "ab" + "c</w>" 3 times, then "ab" is left before "d</w>" twice
    assert learn_merges(Counter({"abc": 3, "abd": 2}), 3) == [("a", "b"), ("ab", "c</w>"), ("ab", "d</w>")]


def test_merges_stop_when_every_word_is_one_symbol():
    assert learn_merges(Counter({"abc": 1}), 50) == [("a", "b"), ("ab", "c</w>")]


def test_committed_merges_are_what_the_captions_give(tmp_path):
    write_merges(tmp_path / "merges.gz")
    committed = (ASSETS / "bpe_merges.txt.gz").read_bytes()
    assert gzip.decompress((tmp_path / "merges.gz").read_bytes()) == gzip.decompress(committed)


def test_vocabulary_is_small_and_every_caption_fits():
    encode = tokenizer()
    longest = max((t.format(f"orange {name}") + ", " + more for name in CLASSES for more in DESCRIPTIONS[name]
                   for ts in TEMPLATES.values() for t in ts), key=lambda text: len(encode.encode(text)))  # fmt: skip
    assert encode.vocab_size < 1000
    assert len(encode.encode(longest)) + 2 <= captions.CONTEXT_LENGTH


@pytest.mark.parametrize("text", ["a sketch of a coat", "crème brûlée & 3 owls", "衣服"])
def test_any_text_can_be_encoded_and_decoded(text):
    encode = tokenizer()
    assert encode(text).shape == (1, captions.CONTEXT_LENGTH)
    assert encode.decode(encode.encode(text)).strip() == text
