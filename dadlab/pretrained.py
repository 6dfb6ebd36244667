"""Published networks by name or file, each with the preprocessing it was trained with.

A name is `MODEL/TAG` (weights from the library's own source), `MODEL/PATH` (a file; an absolute path makes two
slashes), `hf-hub:OWNER/NAME` or `local-dir:FOLDER`, as open_clip and timm understand the last two. Data crop their
images; here they are only resized.
"""

from __future__ import annotations

import difflib
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import timm
from timm.data import resolve_model_data_config
from torch import Tensor

from dadlab.checkpoints import read_checkpoint
from dadlab.files import check_file, fill
from dadlab.fingerprints import BESIDE, sha256
from dadlab.progress import one_line, say
from dadlab.wrappers import Preprocess

Tokenizer = Callable[[list[str]], Tensor]
_PIXELS = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")
_WHOLE = ("hf-hub:", "local-dir:")


def load_open_clip(name: str) -> tuple[Any, Tokenizer, Preprocess]:
    """A CLIP of open_clip's, its tokenizer, and its preprocessing.

    QuickGELU comes with a tag; for a file, from `open_clip_config.json` beside it, from the model's name
    (`ViT-L-14-quickgelu`), or from OpenAI's archive itself.

    Raises:
        ValueError: unknown model or tag, with the nearest; a text tower of Hugging Face's without transformers; weights
            that cannot be read or fetched, with the remedy.
    """
    whole = name.startswith(_WHOLE)
    model, _, weights = (name, "", "") if whole else name.partition("/")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if not whole and model not in open_clip.list_models():
        raise ValueError(f"unknown open_clip model {model!r}: {_nearest(model, open_clip.list_models())}")
    tokenizer = None if whole else _tokenizer(name, model)  # before weights are fetched
    if whole:
        clip = _build_clip(f"open_clip:{name}", model)
    elif open_clip.is_pretrained_cfg(model, weights):
        clip = _published_clip(model, weights)
    elif weights and (Path(weights).is_file() or "/" in weights or Path(weights).suffix):
        clip = _clip_from_file(model, Path(weights))
    else:
        choice = _nearest(weights, tags) if tags else "give a file"
        raise ValueError(f"open_clip:{name}: unknown weights {weights!r} of {model}: {choice}")
    return clip, tokenizer or _tokenizer(name, model), _preprocess(open_clip.get_model_preprocess_cfg(clip))


def load_timm(name: str, classes: int) -> tuple[Any, Preprocess]:
    """A classifier of timm's and its preprocessing: `MODEL` or `MODEL.TAG` alone, or with a file.

    Preprocessing comes with a tag; for a file, from timm's `config.json` beside it. Without one it is taken to be that
    of the tag, or of timm's default tag of the model.

    Raises:
        ValueError: unknown model or tag, with the nearest; another number of classes; weights that cannot be read or
            fetched, with the remedy; a `config.json` of another model.
    """
    whole = name.startswith(_WHOLE)
    model, _, weights = (name, "", "") if whole else name.partition("/")
    published = None if whole else _published_timm(model)
    net: Any
    if weights:
        net = _timm_from_file(model, published, Path(weights), classes)
    else:
        if published:
            _check_classes(name, published.num_classes, classes)
        try:
            net = timm.create_model(model, pretrained=True)
        except Exception as error:  # the hub's client, the network and timm each have their own
            source = published.hf_hub_id if published else model
            raise ValueError(_unfetched(f"timm:{name}", source, f"timm:{model}/PATH", error)) from None
        _check_classes(name, net.num_classes, classes)
    config = resolve_model_data_config(net)
    if weights and not (Path(weights).parent / BESIDE["timm"]).is_file():
        pixels = f"mean {', '.join(map(str, config['mean']))} and deviation {', '.join(map(str, config['std']))}"
        say(f"timm:{name}: taken to be used to timm's pixels of {model}, {pixels}; config.json beside it says others")
    return net, _preprocess({**config, "size": config["input_size"][1:]})


def _tokenizer(name: str, model: str) -> Tokenizer:
    try:
        return open_clip.get_tokenizer(model)
    except ImportError:
        raise ValueError(f"open_clip:{name}: needs transformers (pip install 'dadlab[teachers]')") from None
    except Exception as error:  # Hugging Face tokenizers fail in their own ways
        raise ValueError(f"open_clip:{name}: its tokenizer cannot be loaded ({one_line(error)})") from None


def _published_clip(model: str, tag: str) -> Any:
    config = open_clip.get_pretrained_cfg(model, tag)
    name = f"open_clip:{model}/{tag}"
    try:
        open_clip.download_pretrained(config)
    except Exception as error:  # the hub's client and urllib each have their own
        source = config.get("hf_hub", "").rstrip("/") or config.get("url", "")
        raise ValueError(_unfetched(name, source, f"open_clip:{model}/PATH", error)) from None
    return _build_clip(name, model, pretrained=tag, force_quick_gelu=config.get("quick_gelu", False))


def _clip_from_file(model: str, path: Path) -> Any:
    check_file(path)
    name, beside = f"open_clip:{model}/{path}", path.parent / BESIDE["open_clip"]
    if _is_torchscript(path):
        return _openai_archive(model, path)
    if beside.is_file():
        described = json.loads(beside.read_text())
        quick, pixels = described.get("model_cfg", {}).get("quick_gelu", False), described.get("preprocess_cfg")
        return _build_clip(name, model, pretrained=str(path), force_quick_gelu=quick, force_preprocess_cfg=pixels)
    tags = open_clip.list_pretrained_tags_by_model(model)
    kinds = {open_clip.get_pretrained_cfg(model, tag).get("quick_gelu", False) for tag in tags}
    if len(kinds) > 1:
        say(f"{name}: taken as plain GELU; weights trained with QuickGELU, as OpenAI's, want {model}-quickgelu")
    return _build_clip(name, model, pretrained=str(path), force_quick_gelu=kinds == {True})


def _openai_archive(model: str, path: Path) -> Any:
    """OpenAI's own file is a program: it is opened only if its SHA-256 is the one OpenAI published."""
    tag = open_clip.get_pretrained_cfg(model.removesuffix("-quickgelu"), "openai")
    if sha256(path) not in tag.get("url", ""):
        raise ValueError(f"{path}: a TorchScript program, not OpenAI's {model} (SHA-256 {sha256(path)}); give weights")
    clip = open_clip.load_openai_model(str(path), precision="fp32", device="cpu")
    open_clip.set_model_preprocess_cfg(clip, {**tag, "size": clip.visual.image_size})
    return clip


def _build_clip(name: str, model: str, **options: Any) -> Any:
    try:
        return open_clip.create_model(model, require_pretrained=True, **options)
    except Exception as error:  # whatever open_clip, torch, safetensors or the hub's client raise
        raise ValueError(f"{name}: cannot be loaded ({one_line(error)})") from None


def _timm_from_file(model: str, published: Any, path: Path, classes: int) -> Any:
    state = read_checkpoint(path)
    heads = [published.classifier] if isinstance(published.classifier, str) else published.classifier or ()
    for weight in (f"{head}.weight" for head in heads):
        if weight in state:
            _check_classes(f"{model}/{path}", len(state[weight]), classes)
    options = {**_described(model, path.parent), "num_classes": classes}
    return fill(path, lambda: timm.create_model(model, **options), state)


def _described(model: str, folder: Path) -> dict[str, Any]:
    """What timm's `config.json` in a folder says of a model; one of another library's says nothing."""
    beside = folder / BESIDE["timm"]
    try:
        described = json.loads(beside.read_text()) if beside.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{beside}: not readable ({error}); mend it or move it away") from None
    architecture, pixels = described.get("architecture"), described.get("pretrained_cfg", described)
    if architecture is None:
        return {}
    if architecture.partition(".")[0] != model.partition(".")[0]:
        raise ValueError(f"{beside}: describes {architecture}, not {model}; move it away or name that model")
    overlay = {key: pixels[key] for key in _PIXELS if key in pixels}
    return {**described.get("model_args", {}), "pretrained_cfg_overlay": overlay}


def _published_timm(model: str) -> Any:
    """timm's description of a model, with or without tag."""
    architecture, _, tag = model.partition(".")
    if not timm.is_model(architecture):
        raise ValueError(f"unknown timm model {model!r}: {_nearest(architecture, timm.list_models())}")
    known = timm.list_pretrained(f"{architecture}.*")
    if tag and model not in known:
        raise ValueError(f"unknown weights of timm model {model!r}: {_nearest(model, known)}")
    return timm.get_pretrained_cfg(model)


def _check_classes(name: str, known: int, wanted: int) -> None:
    if known != wanted:
        raise ValueError(f"timm:{name}: teacher knows {known:,} classes, the data has {wanted:,}")


def _preprocess(config: Mapping[str, Any]) -> Preprocess:
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise ValueError(f"teachers must take square images, this one takes {height} × {width}")
    interpolation = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
    return Preprocess(height, config["mean"], config["std"], interpolation)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as opened:
        return any(entry.endswith("/constants.pkl") for entry in opened.namelist())


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1, 0)
    return f"did you mean {close[0]!r}?" if close else "it has none"


def _unfetched(name: str, source: str, form: str, error: Exception) -> str:
    return (
        f"{name}: no weights here and {source} cannot be fetched ({one_line(error)}); "
        f"download them where there is a network, then give the file: {form}"
    )
