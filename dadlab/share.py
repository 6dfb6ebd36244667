"""Stores on the Hugging Face hub: pushed with a dataset card, pulled and verified.

A pushed store is its manifest, its shards, a card and the SHA-256 of each: what made it, how much was kept, and what
was lost why. Pulled into the folder that a profile expects, it stands for a store made here.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from huggingface_hub import DatasetCard, DatasetCardData, HfApi

from dadlab.files import atomic_path, write_json
from dadlab.fingerprints import public, sha256
from dadlab.profile import Profile
from dadlab.store import open_dataset, precisions, read_manifest, tally, whole_store

_SUMS = "sha256.json"
_CARD = """---
{data}
---

# {title}

Discretized adversarial samples Q(x′) after Zhou et al., *Distilling Out-of-Distribution Robustness from
Vision-Language Foundation Models* (NeurIPS 2023), made with dadlab. Codes are kept instead of pixels: the decoder of
the discretizer below draws them again, with `dadlab.pixels.write_images`.

| | |
|---|---|
{facts}

## What was kept

A sample is kept where the teacher still names the true class at Q(x′). Every sample has its row, kept or not.

| verdict | samples | share |
|---|---|---|
{verdicts}

## Columns

`index` and `variant`: the photograph, and which of its replayable views it started from (0 is the photograph itself).
`label`: its true class. `accepted`, `reason`: the verdict. `distance`: ‖Q(x′) − x‖₂ on the [0, 1] scale. `logits`:
the teacher's at Q(x′). `codes`: row by row, uint16; or `pixels`, channel by channel, of a discretizer without codes.
"""


def push(
    folder: Path,
    repository: str,
    profile: Profile,
    *,
    licence: str,
    dry_run: bool = False,
    private: bool = True,
    api: Any = None,
) -> list[str]:
    """Upload a finished store as a dataset of the hub.

    Args:
        folder: the store.
        repository: `owner/name`.
        profile: what it was made with, for the card.
        licence: of the codes, as the hub spells it, such as `mit` or `other`; that of the photographs counts.
        dry_run: print what would be sent, and send nothing.
        private: whether a new repository is hidden.
        api: stands in for `huggingface_hub.HfApi`.

    Returns:
        Names of the files that are, or would be, uploaded.

    Raises:
        ValueError: no finished store.
    """
    store = whole_store(folder)
    with atomic_path(store.folder / "README.md") as temporary:
        temporary.write_text(card(folder, profile, repository, licence), encoding="utf-8")
    paths = [store.folder / "README.md", store.folder / "manifest.json", *store.paths]
    write_json(store.folder / _SUMS, {path.name: sha256(path) for path in paths})
    paths.append(store.folder / _SUMS)
    names = [path.name for path in paths]
    if dry_run:
        size = sum(path.stat().st_size for path in paths)
        print(f"would send {len(names)} files, {size / 1e6:,.1f} MB, to the dataset {repository}:")
        print("\n".join(f"  {path.name}  {path.stat().st_size:,} bytes" for path in paths))
        print(f"\n{paths[0].read_text(encoding='utf-8')}")
        return names
    api = HfApi() if api is None else api
    api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
    api.upload_folder(
        repo_id=repository,
        repo_type="dataset",
        folder_path=store.folder,
        allow_patterns=names,
        commit_message="Upload a store of discretized adversarial samples",
    )
    return names


def pull(repository: str, folder: Path, *, revision: str | None = None, api: Any = None) -> Path:
    """Download a store, verify it, and put it in its place.

    Args:
        repository: `owner/name`.
        folder: where it goes; `dadlab.materials.store_folder` says where a profile expects it.
        revision: a commit, branch or tag.
        api: stands in for `huggingface_hub.HfApi`.

    Returns:
        The folder.

    Raises:
        ValueError: the folder is there already, or what came is not what was pushed; what came is deleted then.
    """
    folder = Path(folder)
    coming = folder.with_name(f".{folder.name}.coming")
    api = HfApi() if api is None else api
    if folder.exists():
        raise ValueError(f"{folder}: there already; pull into another folder or delete it")
    api.snapshot_download(
        repository,
        repo_type="dataset",
        revision=revision,
        local_dir=coming,
        allow_patterns=["manifest.json", "README.md", _SUMS, "shard-*.parquet"],
    )
    shutil.rmtree(coming / ".cache", ignore_errors=True)
    try:
        verify(coming)
    except ValueError as error:
        shutil.rmtree(coming)
        raise ValueError(f"{repository}: {str(error).replace(str(coming), 'the download')}") from None
    os.replace(coming, folder)
    return folder


def verify(folder: Path) -> None:
    """Check a pulled store against its manifest and its sums.

    Raises:
        ValueError: missing or altered files, or rows that the manifest does not promise; names all of them.
    """
    store, manifest, sums = whole_store(folder), read_manifest(folder), store_sums(folder)
    expected = {"manifest.json", *(path.name for path in store.paths)}
    altered = sorted(name for name in expected if sha256(store.folder / name) != sums.get(name))
    if altered:
        raise ValueError(f"{folder}: not as it was pushed: {', '.join(altered)}")
    rows = sum(pq.read_metadata(path).num_rows for path in store.paths)
    if rows != manifest["samples"]:
        raise ValueError(f"{folder}: {rows} rows where the manifest says {manifest['samples']}")


def store_sums(folder: Path) -> dict[str, str]:
    path = Path(folder) / _SUMS
    if not path.is_file():
        raise ValueError(f"{folder}: {_SUMS} is missing; not a store that dadlab pushed")
    return json.loads(path.read_text())


def card(folder: Path, profile: Profile, title: str, licence: str) -> str:
    """The dataset card of a store: what made it, its acceptance rate and the reasons of rejection, licence."""
    manifest, counts = read_manifest(folder), tally(open_dataset(folder, ["reason"]))
    attack, samples = manifest["attack"], manifest["samples"]
    distance = np.median(np.asarray(open_dataset(folder, ["distance"])["distance"][:]))
    facts = {
        "teacher φ": f"{public(profile.teacher)} (weights {manifest['teacher']})",
        "discretizer Q": f"{public(profile.discretizer)} (weights {manifest['discretizer']})",
        "attack": f"{attack['norm']}, ε = {attack['epsilon']}, {attack['steps']} steps of {attack['step_size']}, "
        f"random start with probability {attack['start']}, "
        f"gradient {'through Q, straight-through' if attack['through'] else 'at Q(x)'}",
        "photographs": f"{public(profile.data)}, {profile.train} (content {manifest['data']})",
        "samples a photograph": manifest["variants"],
        "seed": manifest["seed"],
        "acceptance rate": f"{counts['kept'] / samples:.1%} of {samples:,}",
        "median distance ‖Q(x′) − x‖₂": f"{distance:.2f}",
        "arithmetic": ", ".join(sorted(set(precisions(whole_store(folder))))),
        "licence": licence,
    }
    data = DatasetCardData(
        license=licence,
        pretty_name=title.split("/")[-1],
        tags=["adversarial", "knowledge-distillation", "vqgan", "robustness"],
        configs=[{"config_name": "default", "data_files": "shard-*.parquet"}],
    )
    lines = [f"| {verdict} | {count:,} | {count / samples:.1%} |" for verdict, count in counts.items()]
    return str(
        DatasetCard(
            _CARD.format(
                data=data.to_yaml(),
                title=title,
                facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
                verdicts="\n".join(lines),
            )
        )
    )
