"""A real browser drives a real JupyterLab, Notebook and Voilà through `notebooks/inspect.ipynb`.

`make test-browser` runs it; it wants Chromium and Playwright. Pictures of the page are left in `build/browser/`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from dadlab.files import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1500)]
PICTURES = ROOT / "build" / "browser"
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
STAGES = "stages of the attack"
VIEWS = {STAGES: "attack", "photograph": "store", "val: ": "students", "loss curves": "runs", "eigenvalue": "spectrum"}
APPLICATIONS_OWN = {"Cannot read properties of undefined (reading 'schema')"}  # Notebook 7.6 on opening any notebook
TOY = {"limit": 80, "epochs": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the notebook at toy size, and a home for the server's settings."""
    made = tmp_path_factory.mktemp("lab")
    notebook = nbformat.read(ROOT / "notebooks" / "inspect.ipynb", as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in {**TOY, "runs_dir": str(made / "runs")}.items())
    nbformat.write(notebook, made / "inspect.ipynb")
    for name, content in SETTINGS.items():
        path = made / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return made


@contextlib.contextmanager
def serving(folder: Path, command: list[str], path: str) -> Iterator[str]:
    """Start a server, wait for it, give its address, stop it."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": tempfile.mkdtemp(dir=folder),  # none to restore: one notebook opens, and no other
        "HF_HUB_OFFLINE": "1",
    }
    log = (folder / f"{command[0]}.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", *command, f"--port={port}", "--no-browser"],
        cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        _wait_for(port, server, Path(log.name))
        yield f"http://localhost:{port}{path}"
    finally:
        server.terminate()
        try:
            server.wait(60)  # for its kernels
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        log.close()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            return
        if server.poll() is not None:
            break
        time.sleep(0.5)
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-3000:]}")


JUPYTER = ["--allow-root", "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True",
           "--expose-app-in-browser"]  # fmt: skip
VOILA = ["--TagRemovePreprocessor.remove_cell_tags=static", "--show_tracebacks=True"]


@contextlib.contextmanager
def opened(page: Any, folder: Path, application: str, notebook: str) -> Iterator[None]:
    """A notebook in JupyterLab, Notebook or Voilà, every cell run."""
    path = {"jupyterlab": f"/lab/tree/{notebook}", "notebook": f"/notebooks/{notebook}", "voila": "/"}[application]
    command = ["voila", notebook, *VOILA] if application == "voila" else [application, *JUPYTER]
    with serving(folder, command, path) as address:
        page.goto(address)
        if application != "voila":
            run_all(page)
        yield


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("Chromium is not installed; on Debian as root: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    fresh = chromium.new_page(viewport={"width": 1400, "height": 1300})
    fresh.set_default_timeout(240_000)
    fresh.problems = []
    fresh.on("pageerror", lambda error: fresh.problems.append(str(error)))
    PICTURES.mkdir(parents=True, exist_ok=True)
    yield fresh
    fresh.screenshot(path=PICTURES / "last.png")
    fresh.close()


def run_all(page: Any) -> None:
    """Run every cell and wait until each has its number."""
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.context?.isReady")
    page.wait_for_function("() => window.jupyterapp.shell.currentWidget.sessionContext?.session?.kernel")
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_function(
        """() => window.jupyterapp.shell.currentWidget.content.widgets
        .every(cell => cell.model.type !== 'code' || cell.model.executionCount)""",
        timeout=800_000,
    )


def picture(page: Any, starts: str) -> Any:
    """The picture inside a widget whose description begins so."""
    return page.locator(f'svg[role="img"][aria-label^="{starts}"]').first


def told(page: Any, starts: str) -> str:
    """What the picture shows, in words."""
    picture(page, starts).wait_for()
    return picture(page, starts).get_attribute("aria-label")


def until(holds: Callable[[], Any], seconds: float = 120) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def errors(page: Any) -> list[str]:
    """What a reader would see as an error."""
    wrong = '[role="alert"], [data-mime-type="application/vnd.jupyter.error"], [data-mime-type$="stderr"]'
    thrown = [problem for problem in page.problems if problem not in APPLICATIONS_OWN]
    return [text for text in page.locator(wrong).all_inner_texts() if text.strip()] + thrown


def handle(page: Any, name: str) -> Any:
    return page.locator(f'.widget-hslider:has(label:text-is("{name}")) .noUi-handle').first


def shoot(page: Any, starts: str, name: str) -> None:
    """Keep a picture of a view that has finished its work."""
    view = page.locator(".dadlab-view").filter(has=picture(page, starts)).first
    until(view.locator(".progress").is_hidden)
    view.evaluate("view => view.scrollIntoView({block: 'start'})")
    page.wait_for_timeout(400)
    view.screenshot(path=PICTURES / f"{name}.png")


def try_live_attack(page: Any, *, arrows: bool) -> None:
    """Press arrow keys where the application leaves them to a slider, type a number, drag the slider."""
    before = told(page, STAGES)
    for _ in range(20 if arrows else 0):
        handle(page, "ε").press("ArrowLeft")
    until(lambda: not arrows or told(page, STAGES) != before)
    number = page.locator('.widget-hslider:has(label:text-is("ε")) .widget-readout').first
    number.fill("2.5")
    number.press("Enter")
    until(lambda: "‖x′−Q(x)‖₂ = 2." in told(page, STAGES))
    before = told(page, STAGES)
    box = handle(page, "ε").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for step in range(30):
        page.mouse.move(box["x"] + 2 * step, box["y"] + box["height"] / 2)
    page.mouse.up()
    until(lambda: told(page, STAGES) != before)


def try_upload(page: Any) -> None:
    before = told(page, STAGES)
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="own picture").click()
    chosen.value.set_files(ROOT / "papers" / "dad" / "results" / "gain.png")
    until(lambda: told(page, STAGES) != before)
    page.get_by_role("button", name="back", exact=True).click()
    until(lambda: page.locator(".widget-dropdown:has(label:text-is('split')) select").first.is_enabled())


def try_store(page: Any) -> None:
    """Filter, open a sample, mark it, export the marks, forget them."""
    matching = page.get_by_text(re.compile(r"of [\d,]+ samples match")).first
    before = matching.inner_text()
    page.get_by_label("verdict").select_option("rejected")
    until(lambda: matching.inner_text() != before)
    page.get_by_label("verdict").select_option("all")
    until(lambda: matching.inner_text() == before)
    page.locator(".dadlab-gallery button").nth(2).press("Enter")
    assert "photograph" in told(page, "photograph")
    page.get_by_role("button", name="mark", exact=True).click()
    page.get_by_text("1 marked").wait_for()
    page.get_by_role("button", name="export").click()
    page.get_by_text("written to").wait_for()
    page.get_by_role("button", name="clear marks").click()
    page.get_by_text("0 marked").wait_for()


def try_spectrum(page: Any) -> None:
    """Rewrite a description; one of many moves the curves more than the words, which are rounded."""
    told(page, "eigenvalue spectra")
    drawn = picture(page, "eigenvalue spectra").inner_html
    before = drawn()
    page.get_by_label("looks like").fill("a very large hat")
    page.get_by_label("looks like").press("Tab")
    until(lambda: drawn() != before)


@pytest.mark.parametrize("application", ["jupyterlab", "notebook", "voila"])
def test_every_view_works(page: Any, folder: Path, application: str) -> None:
    with opened(page, folder, application, "inspect.ipynb"):
        try_live_attack(page, arrows=application != "notebook")  # Notebook moves between cells with them
        try_store(page)
        try_spectrum(page)
        assert "second − first" in told(page, "val: ")
        assert "DAD" in told(page, "loss curves")
        if application == "jupyterlab":
            try_upload(page)
            for theme in ("Light", "Dark"):
                change_theme(page, theme)
                for starts, name in VIEWS.items():
                    shoot(page, starts, f"lab-{name}-{theme.lower()}")
            change_theme(page, "Light")
        shoot(page, STAGES, f"{application}-attack")
        page.screenshot(path=PICTURES / f"{application}.png", full_page=True)
        assert errors(page) == []
        assert page.locator("text=<Figure size").count() == 0


def change_theme(page: Any, theme: str) -> None:
    """Light or Dark, and room for the notebook."""
    page.evaluate(
        f"""async () => {{
        await window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}});
        window.jupyterapp.shell.collapseLeft();
        }}"""
    )
    page.wait_for_timeout(1500)


@pytest.mark.parametrize("application", ["jupyterlab", "notebook", "voila"])
def test_an_error_would_be_read(page: Any, folder: Path, application: str) -> None:
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    broken.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(broken, folder / "broken.ipynb")
    with opened(page, folder, application, "broken.ipynb"):
        until(lambda: any("ZeroDivisionError" in text for text in errors(page)))
