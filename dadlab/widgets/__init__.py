"""Views into samples, stores, students, runs and text features, for JupyterLab, Notebook and Voilà.

Each view is a class that shows itself in a notebook and whose `figure` gives the static picture. What it computes and
draws lies beside it, in modules that know nothing of notebooks: `live` of `live_attack`; `store_index` and `samples` of
`store_browser`, whose pictures are a `gallery` of buttons; `pairs` of `compare_students`; `run_table` of `run_list`;
`dadlab.vlm` has what `spectrum` shows. `kept` finds runs, `frame` is what all views share, and in `latest` the newest
of their jobs wins.
"""

from dadlab.widgets.compare_students import CompareStudents
from dadlab.widgets.live_attack import LiveAttack
from dadlab.widgets.run_list import RunList
from dadlab.widgets.spectrum import Spectrum
from dadlab.widgets.store_browser import StoreBrowser

__all__ = ["CompareStudents", "LiveAttack", "RunList", "Spectrum", "StoreBrowser"]
