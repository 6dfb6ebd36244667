"""Views into samples, stores, students, runs and text features, for JupyterLab, Notebook and Voilà.

Each view is a class that shows itself in a notebook and whose `figure` gives the static picture; what it computes and
draws lies in a module of pure functions beside it.
"""

from dadlab.widgets.compare_students import CompareStudents
from dadlab.widgets.live_attack import LiveAttack
from dadlab.widgets.run_list import RunList
from dadlab.widgets.spectrum import Spectrum
from dadlab.widgets.store_browser import StoreBrowser

__all__ = ["CompareStudents", "LiveAttack", "RunList", "Spectrum", "StoreBrowser"]
