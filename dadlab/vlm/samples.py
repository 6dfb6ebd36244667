"""DAD samples of the open-vocabulary benchmark, for the second paper's losses: what neither paper did.

The teacher that is attacked and that judges has the texts of the seen labels for a zero-shot head. With descriptions in
them, other samples are kept, and they are attacked elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dadlab.ahead import local_device
from dadlab.attack import described
from dadlab.claims import held
from dadlab.dataset import Dataset
from dadlab.discretizer import load_discretizer
from dadlab.fingerprints import fingerprint, module_fingerprint
from dadlab.generate import generate
from dadlab.profile import ATTACKS, Attack
from dadlab.samples import open_samples
from dadlab.store import open_dataset, tally
from dadlab.teacher import load_teacher
from dadlab.vlm.label_texts import prompted
from dadlab.vlm.material import labels_for
from dadlab.vlm.run import AlignRun

DISCRETIZER = "studio"
VARIANTS = 2  # samples an image, each of another view, as in the embedded profile


def samples_beside(run: AlignRun, clean: Dataset, runs_dir: Path) -> Dataset | None:
    """What a run shows beside clean images: nothing, these again, or samples made of them, made now if missing.

    Args:
        run: its `beside`, teacher and label texts.
        clean: its training images.
        runs_dir: where stores live.

    Raises:
        ValueError: the teacher keeps no sample.
    """
    if run.beside in ("", "view"):
        return clean if run.beside else None
    told = replace(run, text="description") if run.beside == "dad described" else run
    head = prompted(told, labels_for(run, "train"))
    teacher = load_teacher(run.teacher, head, ("{}",)).to(local_device())
    discretizer = load_discretizer(DISCRETIZER).to(local_device())
    attack = ATTACKS["none"] if run.beside == "q" else Attack(epsilon=run.epsilon, step_size=run.epsilon)
    models = module_fingerprint(teacher), module_fingerprint(discretizer)
    folder = Path(runs_dir) / "stores" / fingerprint(clean.fingerprint, *models, described(attack), VARIANTS)
    with held(folder.with_suffix(".lock")):
        generate(clean, teacher, discretizer, attack, folder, variants=VARIANTS)
    rows = open_dataset(folder, ["reason"])
    print(f"{run.beside}: kept {tally(rows)['kept']:,} of {len(rows):,} samples", flush=True)
    return open_samples(folder, discretizer, clean)
