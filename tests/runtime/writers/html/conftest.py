"""A headless Chromium that opens pages from the disk, and complains of each request, console message and policy violation."""

import importlib.util
import shutil
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
RECORD_VIOLATIONS = (
    "addEventListener('securitypolicyviolation', (event) => (window.violations ||= []).push(event.blockedURI))"
)


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install '.[dev]'")
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome (Debian's package chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def firefox():
    """The context manager of marionette.py, which is beside this file and in no package."""
    spec = importlib.util.spec_from_file_location("marionette", Path(__file__).with_name("marionette.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.firefox


@pytest.fixture
def opened(browser):
    """opened(path, **options of a context) -> the page, drawn. At the end nothing was asked for and nothing complained."""

    @contextmanager
    def open_page(path, **options):
        context = browser.new_context(**{"viewport": {"width": 740, "height": 900}} | options)
        context.add_init_script(RECORD_VIOLATIONS)
        page, problems = context.new_page(), []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request", lambda request: Path(unquote(urlsplit(request.url).path)) == path or problems.append(request.url)
        )
        page.goto(path.absolute().as_uri())
        if path.name == "report.html":
            page.wait_for_selector("body[data-ready]")
        yield page
        problems += page.evaluate("window.violations || []")
        assert problems == []
        context.close()

    return open_page
