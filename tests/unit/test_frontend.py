"""What is committed of the frontend is what its sources build, and keeps the page's policy."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

FRONTEND = Path(__file__).resolve().parents[2] / "frontend"
TEMPLATES = FRONTEND.parent / "templates"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """Return the build script as a module."""
    spec = importlib.util.spec_from_file_location("frontend_build", FRONTEND / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_built_files_belong_to_these_sources(build: ModuleType) -> None:
    stamp = (FRONTEND / "dist" / build.STAMP).read_text().strip()
    assert stamp == build.fingerprint(), "run `make frontend` and commit frontend/dist"


def test_no_build_machine_shows(build: ModuleType) -> None:
    for path in (FRONTEND / "dist").iterdir():
        content = path.read_bytes()
        assert b"sourceMappingURL" not in content, path.name
        assert not re.search(rb"file://|/(home/\w+|root)/|node_modules/", content), path.name


def test_no_two_pages_styles_mean_different_things_by_one_class() -> None:
    """All styles are one file: a bare class that two pages' styles define changes the page that came first."""
    homes: dict[str, set[str]] = {}
    for path in (FRONTEND / "src" / "pages").glob("*.css"):
        styles = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        for selectors in re.findall(r"([^{}]+)\{", styles):
            for selector in selectors.split(","):
                if re.fullmatch(r"\.[\w-]+", selector.strip()):
                    homes.setdefault(selector.strip(), set()).add(path.name)
    print_rules = {".band", ".notices", ".skip"}  # the printed statement hides what every page has
    assert {name: files for name, files in homes.items() if len(files) > 1 and name not in print_rules} == {}


def test_templates_hold_no_inline_script_or_style() -> None:
    forbidden = re.compile(
        r"""\sstyle=|<style|\son\w+=["']|<script(?![^>]*\bsrc=)(?![^>]*application/json)|javascript:"""
    )
    found = {
        str(path.relative_to(TEMPLATES)): hit.group(0)
        for path in TEMPLATES.rglob("*.html")
        if (hit := forbidden.search(path.read_text()))
    }
    assert found == {}
