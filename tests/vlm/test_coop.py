import functools

import pytest
import torch
from open_clip.model import CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer

from dadlab.captions import CONTEXT_LENGTH, tokenizer
from dadlab.teacher import build_clip, load_teacher
from dadlab.vlm.coop import PromptLearner, _place_after, _token_embedding
from dadlab.vlm.language import text_features
from dadlab.vlm.losses import TAU, cls_loss

TEXTS = ["coat", "ankle boot . a high shoe", "bag"]
VISION = {"layers": 1, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 16}
TEXT = {"context_length": CONTEXT_LENGTH, "width": 16, "heads": 2, "layers": 2}


@functools.cache
def build(kind: str):
    """A CLIP and its tokenizer: the embedded one, CLIP's own layout with its tokenizer, or a separate text tower."""
    torch.manual_seed(0)
    if kind == "embedded":
        return load_teacher("resnet").clip, tokenizer()
    if kind == "clip":
        encode = SimpleTokenizer()
        text = {**TEXT, "context_length": 77, "vocab_size": encode.vocab_size}
        return build_clip({"embed_dim": 8, "vision_cfg": VISION, "text_cfg": text}), encode
    text = {**TEXT, "vocab_size": tokenizer().vocab_size}
    return CustomTextCLIP(embed_dim=8, vision_cfg=VISION, text_cfg=text), tokenizer()


@pytest.fixture(params=["embedded", "clip", "separate tower"])
def tower(request):
    clip, encode = build(request.param)
    return clip.eval().requires_grad_(True), encode


@pytest.mark.parametrize("phrase", ["a photo of", "a photo of a", "wow!", "crème brûlée"])
def test_context_of_a_phrases_tokens_gives_that_prompts_features(tower, phrase):
    clip, encode = tower
    first, after = (_place_after(text, encode) for text in ("", phrase))
    learner = PromptLearner(clip, encode, TEXTS, tokens=after - first)
    learner.context.data = _token_embedding(clip)(encode([f"{phrase} a"])[0, first:after]).detach()
    expected = text_features(*tower, [f"{phrase} {text}" for text in TEXTS])
    torch.testing.assert_close(learner().detach(), expected)


def test_only_the_context_learns_and_is_stored(tower):
    learner = PromptLearner(*tower, TEXTS)
    before = {name: value.clone() for name, value in tower[0].state_dict().items()}
    optimizer = torch.optim.SGD(learner.parameters(), lr=1.0)
    loss = cls_loss(torch.randn(6, learner().shape[1]), learner(), torch.arange(6) % 3, tau=TAU)
    loss.backward()
    optimizer.step()
    assert list(learner.state_dict()) == ["context"]
    assert len(learner.context) == 8
    assert (learner.context.grad.abs().sum(1) > 0).all()
    assert all(parameter.grad is None for parameter in tower[0].parameters())
    assert all(torch.equal(value, before[name]) for name, value in tower[0].state_dict().items())


def test_one_context_serves_all_labels_and_other_ones(tower):
    learner = PromptLearner(*tower, TEXTS)
    seen = learner().detach()
    torch.testing.assert_close(seen.norm(dim=1), torch.ones(3))
    learner.texts_are(["bag", "cup"])
    torch.testing.assert_close(learner().detach()[0], seen[2])


def test_the_model_is_as_before_afterwards(tower):
    clip, encode = tower
    clip.requires_grad_(False)  # another kernel, other rounding
    before = text_features(clip, encode, TEXTS)
    PromptLearner(clip, encode, TEXTS)()
    assert torch.equal(text_features(clip, encode, TEXTS), before)


def test_learning_lowers_the_loss():
    clip, encode = build("embedded")
    learner = PromptLearner(clip, encode, TEXTS)
    images, labels = text_features(clip, encode, ["a sketch of a owl", "a cartoon of a bag"]), torch.tensor([0, 2])
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        losses.append(cls_loss(images, learner(), labels, tau=TAU))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2


def test_random_context_follows_its_seed():
    contexts = [PromptLearner(*build("separate tower"), TEXTS, tokens=16, seed=seed).context for seed in (0, 0, 1)]
    assert torch.equal(contexts[0], contexts[1])
    assert not torch.equal(contexts[0], contexts[2])
    assert contexts[0].std().item() == pytest.approx(0.02, rel=0.2)
    assert contexts[0].mean().item() == pytest.approx(0, abs=0.004)


def test_texts_cut_by_the_context_are_reported():
    clip, encode = build("embedded")
    fits = "x " * (CONTEXT_LENGTH - 2 - 8)
    PromptLearner(clip, encode, [fits])
    with pytest.warns(UserWarning, match=r"1 of 1 texts exceed the text encoder's 24 tokens"):
        PromptLearner(clip, encode, [fits + "x"])


def test_no_room_for_the_context():
    with pytest.raises(ValueError, match="no room after"):
        PromptLearner(*build("embedded"), TEXTS, tokens=CONTEXT_LENGTH)


def test_model_without_a_token_embedding_is_named():
    with pytest.raises(ValueError, match="Linear has no token embedding"):
        PromptLearner(torch.nn.Linear(2, 2), tokenizer(), TEXTS)
