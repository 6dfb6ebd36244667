import open_clip
import pytest
import torch

from dadlab import captions
from dadlab.photos import CLASSES
from dadlab.teacher import PublishedClip, build_clip
from dadlab.vlm.label_texts import FixedTexts, LearntContext, LearntLabels, described, label_texts, prompted
from dadlab.vlm.language import cut_texts
from dadlab.vlm.material import teacher_of
from dadlab.vlm.openvocab import labels_of, load_labels
from dadlab.vlm.run import TEXTS, AlignRun
from dadlab.wrappers import Preprocess

SEEN, UNSEEN = labels_of("train"), labels_of("ood")
VISION = {"layers": 1, "width": 64, "patch_size": 8, "image_size": 16}
KINDS = [kind for kind in TEXTS if kind != "learnt"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_fits_the_text_encoder(kind):
    texts = prompted(AlignRun("cls", text=kind), load_labels())
    assert len(texts) == 110
    assert cut_texts(captions.tokenizer(), texts) == []


@pytest.mark.parametrize("kind", ["succinct", "detailed", "distinct"])
def test_descriptions_name_the_colour_and_never_the_garment(kind):
    for label, text in zip(load_labels(), described(AlignRun(text=kind, naming="product"), load_labels()), strict=True):
        name, told = text.split(" . ")
        assert name == label.product
        assert label.plain.split(" ", 1)[0] in told
        assert not [garment for garment in CLASSES if garment in told.split()]


def test_plain_names_in_the_template():
    assert prompted(AlignRun(), SEEN[:1]) == [f"a photo of a {SEEN[0].plain}"]
    assert prompted(AlignRun(data="birds:/data"), SEEN[:1]) == [f"a photo of {SEEN[0].plain}"], "the paper's own"


def test_a_published_clip_reads_texts_with_its_own_tokenizer():
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    clip = build_clip({"embed_dim": 8, "vision_cfg": VISION, "text_cfg": text})
    tokenizer, preprocess = open_clip.get_tokenizer("ViT-B-32"), Preprocess(16, (0.5,) * 3, (0.5,) * 3)
    teacher = PublishedClip(clip, tokenizer, preprocess, ["owl"], ["{}"])
    run = AlignRun(data="birds:/data")
    wanted = clip.encode_text(tokenizer(prompted(run, SEEN)), normalize=True)
    assert torch.equal(label_texts(run, teacher, SEEN)(), wanted)
    learnt = label_texts(AlignRun(data="birds:/data", context=4), teacher, SEEN[:2])
    assert learnt().shape == (2, 8)


def test_fixed_texts_are_frozen_and_answer_for_other_labels():
    run = AlignRun()
    texts = label_texts(run, teacher_of(run), SEEN)
    assert isinstance(texts, FixedTexts)
    assert not texts.state_dict()
    assert texts().shape == texts.of(UNSEEN).shape == (55, 64)
    assert texts().norm(dim=1) == pytest.approx(torch.ones(55), abs=1e-5)
    assert not texts().requires_grad


def test_a_context_is_learnt_and_carries_over_to_other_labels():
    run = AlignRun(context=8)
    texts = label_texts(run, teacher_of(run), SEEN[:5])
    assert isinstance(texts, LearntContext)
    before, after = texts().detach(), texts.of(UNSEEN[:3])
    assert after.shape == (3, 64)
    assert torch.equal(texts(), before), "asking for other labels changes nothing"
    texts()[0, 0].backward()
    assert texts.prompt.context.grad.abs().sum() > 0
    with torch.no_grad():
        texts.prompt.context += 1
    assert not torch.allclose(texts.of(UNSEEN[:3]), after)


def test_a_context_has_the_runs_length_and_follows_its_seed():
    first, again, other = (
        label_texts(run, teacher_of(run), SEEN[:1]).prompt.context
        for run in (AlignRun(context=4), AlignRun(context=4), AlignRun(context=4, seed=1))
    )
    assert len(first) == 4
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_names_alone_end_with_a_full_stop_after_a_learnt_context():
    for text, end in (("plain", "."), ("description", f" . {SEEN[0].description}")):
        run = AlignRun(context=4, text=text)
        assert LearntContext(run, teacher_of(run), SEEN[:1])._texts(SEEN[:1]) == [SEEN[0].plain + end]


@pytest.mark.parametrize("kind", ["shuffled", "random words"])
def test_controls_follow_the_runs_seed(kind):
    first, again, other = (described(AlignRun(text=kind, seed=seed), SEEN) for seed in (0, 0, 1))
    assert first == again != other


def test_learnt_labels_begin_at_unit_length_by_the_runs_seed():
    first, again, other = (LearntLabels(AlignRun(text="learnt", seed=seed), 64, SEEN)().detach() for seed in (0, 0, 1))
    assert first.norm(dim=1) == pytest.approx(torch.ones(55), abs=1e-5)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_learnt_labels_know_their_own_and_keep_what_was_known():
    run = AlignRun(text="learnt")
    texts = label_texts(run, teacher_of(run), SEEN)
    assert isinstance(texts, LearntLabels)
    with pytest.raises(ValueError, match="has no answer for"):
        texts.of(UNSEEN)
    wider = LearntLabels(run, 64, [*UNSEEN[:2], *SEEN], texts)
    assert torch.equal(wider.of(SEEN), texts.of(SEEN))
    assert wider.of(UNSEEN[:2]).shape == (2, 64)
