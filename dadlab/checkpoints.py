"""Published checkpoints: read safely, checked strictly, kept as safetensors.

Nothing in a file is ever run: pickles are read with torch's restricted unpickler, and what published files hold
beside tensors (Lightning's callbacks, argparse's namespaces, NumPy's scalars) becomes an inert stand-in, so that none
of these packages need be installed. The VQGANs of CompVis lie in Lightning checkpoints with their training losses:

    python -m dadlab.checkpoints convert model.ckpt vqgan_f8.safetensors [--config model.yaml]
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors
import torch
import yaml
from safetensors.torch import load_file
from timm.models import clean_state_dict
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from dadlab.discretizer import VQGAN
from dadlab.files import check_file, fill, save_weights
from dadlab.fingerprints import sha256

# The paper's: f = 8, d = 4, K = 16384 (CompVis' `vq-f8`, Rombach et al., 2022, Table 8).
VQGAN_F8: dict[str, Any] = {
    "ddconfig": {
        "double_z": False,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 128,
        "ch_mult": [1, 2, 2, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [32],
        "dropout": 0.0,
    },
    "n_embed": 16384,
    "embed_dim": 4,
}
_INERT_PACKAGES = {"pytorch_lightning", "lightning", "lightning_fabric", "numpy", "_codecs", "argparse"}
_INERT_IN_OLD_FILES = (
    "argparse.Namespace",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
)
_STATES = ("state_dict_ema", "model_ema", "state_dict", "model")
_TRAINING_ONLY = ("loss.", "model_ema.", "quantize.embedding.cluster_size", "quantize.embedding.embed_avg")
_OTHERS = {
    "quantize.proj.weight": "the Gumbel variant; DAD's VQGAN (f = 8, d = 4, K = 16384) looks up its nearest code",
    "colorize": "a VQGAN of segmentation maps, not of images",
}


class _Inert:
    """Takes the place of an object that is not a weight."""

    def __init__(self, *arguments: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint (`.ckpt`, `.pt`, `.pth`, `.tar`, `.bin`) or safetensors file.

    Averaged weights are taken where there are both, as timm does; prefixes of parallel or compiled training go.

    Raises:
        ValueError: the file is missing, empty, a web page, truncated, not a checkpoint, or holds objects that are
            neither weights nor known to be harmless; one line.
    """
    path = Path(path)
    check_file(path)
    try:
        content: dict[str, Any] = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except (RuntimeError, OSError, EOFError, UnpicklingError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: not a readable checkpoint, perhaps truncated ({_reason(error)})") from None
    state = next((content[key] for key in _STATES if isinstance(content.get(key), dict)), content)
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{path}: holds no weights, only {', '.join(map(str, content)) or 'nothing'}")
    return clean_state_dict(tensors)


def _reason(error: Exception) -> str:
    """One line of a message; of torch's on unpickling what it stumbled over, not its advice to trust the file."""
    lines = str(error).splitlines() or [type(error).__name__]
    line = next((line for line in lines if "GLOBAL" in line or "WeightsUnpickler error" in line), lines[0])
    return line.strip().removeprefix("WeightsUnpickler error: ").partition(". Please")[0]


def _unpickle(path: Path) -> dict[str, Any]:
    zipped = zipfile.is_zipfile(path)
    foreign = get_unsafe_globals_in_checkpoint(path) if zipped else _INERT_IN_OLD_FILES
    refused = sorted(name for name in foreign if name.split(".")[0] not in _INERT_PACKAGES)
    if refused:
        raise ValueError(f"{path}: refused, it holds objects that are not weights: {', '.join(refused)}")
    with safe_globals([(_Inert, name) for name in foreign]):  # type: ignore[list-item]  # torch's stubs omit pairs
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a dictionary of weights")
    return content


def convert(source: Path, target: Path, config: dict[str, Any] = VQGAN_F8) -> str:
    """Write a published VQGAN as safetensors for `load_discretizer`, in the precision that it has.

    Args:
        source: Lightning checkpoint of CompVis' `VQModel`, or safetensors with its keys.
        target: where to write.
        config: `ddconfig`, `n_embed` and `embed_dim` that it was trained with.

    Returns:
        SHA-256 of source and target, and what was left out.

    Raises:
        ValueError: unreadable source; another kind of model; keys or shapes that the configuration does not have.
    """
    if Path(target).suffix != ".safetensors":
        raise ValueError(f"{target}: name the target .safetensors")
    state = read_checkpoint(source)
    for key, what in _OTHERS.items():
        if key in state:
            raise ValueError(f"{source}: {what}")
    if "quantize.embedding.weight" not in state:
        raise ValueError(f"{source}: no codebook (quantize.embedding.weight): not a VQGAN of CompVis")
    kept = {key: value for key, value in state.items() if not key.startswith(_TRAINING_ONLY)}
    vqgan = fill(source, lambda: VQGAN(**config), kept)
    save_weights(target, vqgan.state_dict(), config, half=False)
    factor, codes, width = 2 ** (len(config["ddconfig"]["ch_mult"]) - 1), config["n_embed"], config["embed_dim"]
    return (
        f"{source}  sha256 {sha256(source)}\n{target}  sha256 {sha256(target)}\n"
        f"f = {factor}, d = {width}, K = {codes}: {len(kept)} tensors kept, "
        f"{len(state) - len(kept)} of training alone left out"
    )


def read_config(path: Path) -> dict[str, Any]:
    """The VQGAN's configuration from the YAML file published beside its checkpoint.

    Raises:
        ValueError: no such file, or one without a VQGAN's configuration.
    """
    try:
        found = yaml.safe_load(Path(path).read_text())["model"]["params"]
        return {key: found[key] for key in ("ddconfig", "n_embed", "embed_dim")}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: no ddconfig, n_embed and embed_dim under model.params ({reason})") from None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m dadlab.checkpoints", description="Make published checkpoints usable.")
    command = parser.add_subparsers(required=True).add_parser("convert", help="a VQGAN checkpoint to safetensors")
    command.add_argument("source", type=Path)
    command.add_argument("target", type=Path)
    command.add_argument("--config", type=Path, help="YAML published beside it; f = 8, d = 4, K = 16384 unless given")
    given = parser.parse_args(arguments)
    try:
        print(convert(given.source, given.target, read_config(given.config) if given.config else VQGAN_F8))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
