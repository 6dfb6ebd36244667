"""dadlab: distil out-of-distribution robustness from vision-language models.

Three functions carry their module's name and are imported from there: `dadlab.train.train`,
`dadlab.generate.generate` and `dadlab.evaluate.evaluate`.
"""

from dadlab.attack import perturb
from dadlab.batch import Batch, Tools
from dadlab.data import load_split, split_names
from dadlab.dataset import Dataset
from dadlab.decode import materialize
from dadlab.discretizer import VQGAN, Identity, load_discretizer
from dadlab.estimates import Estimate, accuracy, difference
from dadlab.evaluate import correct, corrupted, mce, shifts_of, top1
from dadlab.examples import Made, discretize_adversarially
from dadlab.grids import compare
from dadlab.losses import dad_loss, kd_loss, kl_divergence
from dadlab.methods import METHODS, Method
from dadlab.profile import ATTACKS, Attack, Profile, make_profile
from dadlab.results import measure
from dadlab.run import Run
from dadlab.store import open_dataset, tally
from dadlab.students import STUDENTS, Student, load_student, save_student
from dadlab.teacher import ClipTeacher, StudentTeacher, load_teacher
from dadlab.views import augment

__all__ = [
    "ATTACKS",
    "METHODS",
    "STUDENTS",
    "VQGAN",
    "Attack",
    "Batch",
    "ClipTeacher",
    "Dataset",
    "Estimate",
    "Identity",
    "Made",
    "Method",
    "Profile",
    "Run",
    "Student",
    "StudentTeacher",
    "Tools",
    "accuracy",
    "augment",
    "compare",
    "correct",
    "corrupted",
    "dad_loss",
    "difference",
    "discretize_adversarially",
    "kd_loss",
    "kl_divergence",
    "load_discretizer",
    "load_split",
    "load_student",
    "load_teacher",
    "make_profile",
    "materialize",
    "mce",
    "measure",
    "open_dataset",
    "perturb",
    "save_student",
    "shifts_of",
    "split_names",
    "tally",
    "top1",
]
