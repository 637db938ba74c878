"""Style that a linter cannot see."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_MODULE_LINES = 500  # a module that outgrows a few screens is no longer one thing
PURE = (
    "market/engine",
    "ledger/core",
    "market/audit/judge.py",
    "market/audit/meters.py",
    "market/audit/older.py",
    "market/audit/resume.py",
    "market/metering/estimation.py",
    "market/metering/formats",
    "market/metering/validation.py",
    "market/payments/formats",
    "market/settlement/levies.py",
    "market/settlement/periods.py",
    "market/settlement/rules.py",
    "market/settlement/statements.py",
    "market/agents/outlook.py",
    "market/agents/strategies",
    "market/pages/houseflow.py",
    "market/pages/plans.py",
    "market/pages/pricestrip.py",
    "market/pages/sales.py",
    "market/streaming/protocol.py",
    "market/surveillance/formats.py",
    "market/surveillance/pastbook.py",
    "market/surveillance/pastviews.py",
)
IMPURE = {
    "django", "rest_framework", "channels", "psycopg2", "time", "random", "secrets", "socket", "asyncio", "threading",
    "logging", "os", "pathlib", "urllib", "sqlite3", "uuid", "subprocess",
}  # fmt: skip


def modules() -> list[Path]:
    """Return every Python module of the product and its tests, migrations left out."""
    found = [path for top in ("market", "ledger", "tests") for path in sorted((ROOT / top).rglob("*.py"))]
    return [path for path in found if "migrations" not in path.parts]


def imported(path: Path) -> set[str]:
    """Return the top-level names a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_modules_stay_small() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    assert {name: lines for name, lines in long.items() if lines > MAX_MODULE_LINES} == {}


def test_package_files_are_empty() -> None:
    filled = [str(path.relative_to(ROOT)) for path in modules() if path.name == "__init__.py" and path.read_text()]
    assert filled == []


def test_pure_packages_import_nothing_impure() -> None:
    offenders = {}
    for path in modules():
        name = str(path.relative_to(ROOT))
        if name.startswith(PURE) and (bad := imported(path) & IMPURE):
            offenders[name] = sorted(bad)
    assert offenders == {}


@pytest.mark.parametrize(
    "pattern", [r"\b(TODO|FIXME|XXX)\b", r"NotImplementedError\b", r"pytest\.mark\.(skip|xfail)\b"]
)
def test_nothing_is_left_open(pattern: str) -> None:
    this = Path(__file__).resolve()
    found = [str(path.relative_to(ROOT)) for path in modules() if path != this and re.search(pattern, path.read_text())]
    assert found == []


def test_imports_point_one_way() -> None:
    run = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_requirements_are_pinned() -> None:
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert [line for line in lines if line and not re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==[\w.]+", line)] == []


def _rules(text: str) -> list[str]:
    """Return the selectors of a style sheet, without those that are only for paper."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"@media print \{(?:[^{}]*\{[^{}]*\})*\s*\}", "", text)
    found = [group.split(",") for group in re.findall(r"([^{}@;]+)\{", text)]
    return [selector.strip() for group in found for selector in group]


def test_screens_do_not_style_each_other() -> None:
    """All sheets become one: a class that one screen's sheet makes its own is no other screen's.

    Two screens once had a ``heat`` and a ``key`` each, and the second to be merged broke the first.
    """
    styles = ROOT / "frontend" / "src"
    roots: dict[str, set[str]] = {}
    own: dict[str, set[str]] = {}
    for sheet in sorted((styles / "pages").glob("*.css")):
        for selector in _rules(sheet.read_text()):
            if found := re.match(r"\.([\w-]+)(?=[\s:\[.]|$)", selector):
                roots.setdefault(found[1], set()).add(sheet.name)
                if selector == found[0]:
                    own.setdefault(found[1], set()).add(sheet.name)
    shared = set(re.findall(r"\.([\w-]+)", "".join((styles / name).read_text() for name in ("shell.css", "parts.css"))))
    assert {name: roots[name] for name in own.keys() - shared if len(roots[name]) > 1} == {}
