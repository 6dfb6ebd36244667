import sys
import types

import pytest
import torch

from dadlab.captions import tokenizer
from dadlab.teacher import load_teacher
from dadlab.vlm import text_encoders
from dadlab.vlm.language import text_features
from dadlab.vlm.text_encoders import load_text_encoder

TEXTS = ["a photo of red coat", "a photo of blue bag"]


def test_embedded_encoder_is_the_teachers():
    expected = text_features(load_teacher("resnet").clip, tokenizer(), TEXTS)
    torch.testing.assert_close(load_text_encoder("resnet")(TEXTS), expected)


def test_embedded_encoder_warns_of_cut_texts():
    with pytest.warns(UserWarning, match="1 of 2 texts exceed"):
        load_text_encoder("resnet")(["a bag", "a " * 40])


def test_open_clip_by_name(monkeypatch):
    clip = load_teacher("resnet").clip
    monkeypatch.setattr(text_encoders, "load_open_clip", lambda name: (clip, tokenizer(), name))
    features = load_text_encoder("open_clip:ViT-B-32/openai")(TEXTS)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))


def test_sentence_transformers_that_is_there(monkeypatch):
    class Encoder:
        def __init__(self, name, device):
            self.name = name

        def encode(self, texts, *, normalize_embeddings, show_progress_bar):
            assert normalize_embeddings
            return torch.eye(4)[: len(texts)].numpy()

    package = types.ModuleType("sentence_transformers")
    package.SentenceTransformer = Encoder
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    assert load_text_encoder("sentence-transformers:some/model")(TEXTS).shape == (2, 4)


def test_sentence_transformers_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match=r"pip install sentence-transformers$"):
        load_text_encoder("sentence-transformers:some/model")


@pytest.mark.parametrize("name", ["bert", "timm:resnet18", "open_clip"])
def test_unknown_encoder(name):
    with pytest.raises(ValueError, match=f"unknown text encoder '{name}'.*sentence-transformers:MODEL"):
        load_text_encoder(name)
