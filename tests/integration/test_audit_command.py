"""``python -m market.audit`` as a program: on a real market's export, on two cores, resumed, in a bare virtual environment."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest
from django.core.management import call_command

from ledger.core.cosign import Cosigner
from ledger.core.note import Signer
from ledger.core.verify import verify_log
from ledger.files import FolderSource
from market.audit import resume
from market.audit.__main__ import Progress, main
from market.engine import commands as c
from market.engine import signing
from tests.integration.test_demo_market import stepped
from tests.market_log import ORIGIN, SIGNER, lie
from tests.unit.audit_market import AFTER, Town, a_day, of_type
from tests.unit.test_audit_signatures import MINE, OTHER, SigningTown, public

ROOT = Path(__file__).resolve().parents[2]
PINS = ("cryptography", "orjson")  # all the audit needs
EVERY = 100  # entries between two positions kept


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def a_longer_day(blocks: int = 28) -> Town:
    """A day with enough entries for several bundles and positions; with fewer blocks it is the beginning of the same."""
    town = a_day()
    for number in range(7 * blocks + 1):
        order = town.order(town.alice, c.SELL, 2_000, 10, AFTER)
        if number % 3:
            town.do(c.CancelOrder(town.alice, order, "owner"))
        else:
            town.order(town.bob, c.BUY, 2_300, 10, AFTER)
        if number % 7 == 0:
            town.seal()
    return town


@pytest.fixture
def day(tmp_path: Path) -> Path:
    return write(tmp_path / "log", a_longer_day().files())


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_log_that_follows_from_the_rules_passes(day: Path, capsys: pytest.CaptureFixture[str], jobs: int) -> None:
    code, out, err = run(capsys, day, "--jobs", jobs, "--vkey", SIGNER.vkey, "--json", day / "verdict.json")
    assert (code, err) == (0, "")
    told = json.loads((day / "verdict.json").read_text())
    assert told["verdict"] == "passed"
    assert re.search(
        rf"^entries {told['entries']}, blocks {told['blocks']}, trades {told['types']['trade']} ", out, re.M
    )
    for line in (
        r"energy \d+ Wh", r"money \d+\.\d{7} EUR paid, of it \d+\.\d{7} EUR grid fees", r"time 2026-.*Z to 2026-",
        r"clock gates closed up to 960\.0 s late, intervals ended 60\.0 s, gaps of \d+\.\d s$",
            r"seconds \d+\.\d, entries a second \d+", r"settled 3 rows by 3 readings", r"rulebooks 1 verified",
    ):  # fmt: skip
        assert re.search(rf"^{line}", out, re.M), line


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_first_entry_that_does_not_follow_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: int
) -> None:
    town = a_longer_day()
    trade = of_type(town.entries, "trade", 30)
    folder = write(tmp_path, lie(town, lambda entries, rows: entries[trade["seq"]].update(energy_wh=9)))
    code, out, err = run(capsys, folder, "--jobs", jobs, "--json", tmp_path / "verdict.json")
    assert (code, out) == (1, "")
    assert err == f"entry {trade['seq']} (trade, {trade['at']}): energy_wh: expected 10, was 9\n"
    assert json.loads((tmp_path / "verdict.json").read_text())["verdict"] == "wrong"


@pytest.mark.parametrize("jobs", [1, 2])
def test_damage_is_told_from_lies(day: Path, capsys: pytest.CaptureFixture[str], jobs: int) -> None:
    """An entry changed by somebody without the key does not follow from the rules either, but that is not the point."""
    bundle = day / "tile/entries/000"
    bundle.write_bytes(bundle.read_bytes().replace(b'"buy_e4":1700', b'"buy_e4":1701', 1))
    seq = of_type(a_day().entries, "trade")["seq"]
    code, _, err = run(capsys, day, "--jobs", jobs)
    assert code == 1
    assert re.match(rf"entry {seq}: expected the hash [0-9a-f]{{64}} of tile/0/000", err)


def test_older_checkpoints_and_receipts_are_taken_from_files(
    day: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(a_longer_day(3).files()["checkpoint"])
    code, out, _ = run(capsys, day, "--from-checkpoint", kept, "--from-checkpoint", day / "checkpoint")
    assert (code, "kept 2 older checkpoints and receipts: the log still holds them" in out) == (0, True)
    other = Town()
    for _ in range(20):
        other.seal()
    kept.write_bytes(other.files()["checkpoint"])
    code, _, err = run(capsys, day, "--receipt", kept)
    assert code == 1
    assert err.startswith(f"{kept}: expected the log to begin with the ")
    kept.write_bytes(b"nothing")
    assert run(capsys, day, "--receipt", kept)[0] == 2


def test_a_history_redone_under_another_key_is_found_against_a_cosigned_checkpoint(
    day: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator has made a new key and a new history that is right in itself; a witness' line is all that somebody kept."""
    note, regulator = a_longer_day(3).files()["checkpoint"].decode(), Cosigner("witness.example/w1", bytes([101]) * 32)
    kept, policy = tmp_path / "kept", tmp_path / "policy"
    kept.write_text(note + regulator.cosign(note.split("\n\n")[0] + "\n", 1_780_000_000))
    policy.write_text(f"witness regulator {regulator.key}\nquorum regulator\n")
    newest = (day / "checkpoint").read_text()
    (day / "checkpoint").write_text(newest + regulator.cosign(newest.split("\n\n")[0] + "\n", 1_780_000_100))
    other = Town(Signer(ORIGIN, bytes([77]) * 32))
    size = int(note.split("\n")[1])
    while len(other.entries) <= size:
        other.seal()
    redone = write(tmp_path / "redone", other.files())
    assert run(capsys, redone)[0] == 0, "nothing is wrong with it, alone"
    code, _, err = run(capsys, redone, "--from-checkpoint", kept)
    assert (code, err.startswith(f"{kept}: expected a signature by ")) == (2, True)
    for witnesses in (("--witness", regulator.key), ("--policy", policy)):
        code, _, err = run(capsys, redone, "--from-checkpoint", kept, *witnesses)
        assert (code, err.startswith(f"{kept}: expected the log to begin with the ")) == (1, True)
        assert "was another history" in err
        code, out, err = run(capsys, day, "--from-checkpoint", kept, *witnesses, "--json", tmp_path / "verdict.json")
        assert (code, err) == (0, "")
        assert f"cosigned {kept} by witness.example/w1 (2026-05-28T20:26:40Z): a quorum" in out
        assert json.loads((tmp_path / "verdict.json").read_text())["cosigned"] == 1
    whole = kept.read_text()
    kept.write_text(whole[:-6] + ("A" if whole[-6] != "A" else "B") + whole[-5:])
    code, _, err = run(capsys, day, "--from-checkpoint", kept, "--policy", policy)
    assert (code, "the cosignature by witness.example/w1" in err) == (2, True)
    kept.write_text(note + regulator.cosign(note.split("\n\n")[0] + "\n", 2**63 - 1))
    assert "9223372036854775807 s after 1970" in run(capsys, day, "--from-checkpoint", kept, "--policy", policy)[1]


def test_readings_that_are_not_there_fail_an_audit_unless_that_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    town = a_longer_day()
    readings = of_type(town.entries, "readings")
    folder = write(tmp_path / "log", lie(town, lambda entries, rows: rows.pop(readings["seq"])))
    code, out, err = run(capsys, folder, "--resume", tmp_path / "resume")
    assert (code, out) == (1, "")
    assert err == f"rows/{readings['seq']}: expected the readings that are settled by, was missing\n"
    code, out, _ = run(capsys, folder, "--allow-missing-rows")
    assert code == 0
    told = (
        "; 1 readings entries are not in this source: what was settled by them was held against tally and tariff only"
    )
    assert told in out


@pytest.mark.parametrize("jobs", [1, 2])
def test_accounts_that_sign_are_told_of_and_held_to_the_keys_their_owners_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: int
) -> None:
    town = SigningTown()
    (reset,) = (event.seq for event in town.do(town.change(town.bob, OTHER, reason=signing.LOST)))
    town.seal()
    folder, bob, keys = (
        write(tmp_path / "log", town.files()),
        town.engine.accounts[town.bob].id,
        [public(MINE), public(OTHER)],
    )
    accounts = [option for key in keys for option in ("--account-key", f"{bob}:{key.upper()}")]
    code, out, err = run(capsys, folder, *accounts, "--jobs", jobs, "--json", tmp_path / "verdict.json")
    assert (code, err) == (0, "")
    assert "signing 1 accounts sign their orders, keys changed 2 times" in out
    assert f"unsigned account {bob}: key changed in entry {reset} (lost_device)" in out
    assert f"account {bob}: no key but those given" in out
    told = json.loads((tmp_path / "verdict.json").read_text())
    change = {"seq": reset, "public_key": keys[1], "reason": "lost_device"}
    assert told["unsigned"] == [{"account": bob, "changes": [change], "slept": 0, "slept_first": -1}]
    assert (told["signing"], told["key_changes"], told["held"]) == (1, 2, 1)
    code, out, err = run(capsys, folder, *accounts[:2], "--jobs", jobs)
    assert (code, out) == (1, "")
    assert err == f"entry {reset} (account {bob}): public_key: expected {keys[0]}, was {keys[1]}\n"


def test_input_that_cannot_be_used_is_told_from_wrong_input(
    day: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in (
        (tmp_path / "nowhere",), (tmp_path / "empty",), (day, "--vkey", "x"), (day, "--receipt", tmp_path / "nowhere"),
        ("http://localhost:1",), ("http://[",), ("ftp://x",), (day, "--witness", SIGNER.vkey),
        (day, "--account-key", "12:34"), (day, "--account-key", "x" * 32 + ":" + "0" * 64),
        (day, "--policy", tmp_path / "nowhere"), (day, "--policy", day / "checkpoint"),
    ):  # fmt: skip
        for jobs in (1, 2):
            code, out, err = run(capsys, *arguments, "--jobs", jobs)
            assert (code, out, bool(err)) == (2, "", True), arguments


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_audit_goes_on_from_where_it_stopped(
    day: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: int
) -> None:
    """Killed in the middle, then gone on with; and once more when the log has grown."""
    file = tmp_path / "position"
    audit = ("--resume", file, "--resume-every", EVERY, "--jobs", jobs)
    good = (day / "tile/entries/001").read_bytes()
    (day / "tile/entries/001").write_bytes(good.replace(b'"energy_wh":10', b'"energy_wh":11'))
    assert run(capsys, day, *audit)[0] == 1
    kept, _ = resume.read(file.read_bytes())
    assert EVERY <= kept.size <= 256
    assert kept.size % 256, "in the middle of a bundle"
    (day / "tile/entries/001").write_bytes(good)

    code, out, err = run(capsys, day, *audit)
    assert (code, err) == (0, "")
    assert f"resumed {kept.size} entries were judged before" in out
    _, fresh, _ = run(capsys, day, "--jobs", jobs)

    def figures(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith(("seconds", "resumed"))]

    assert figures(out) == figures(fresh)
    size = verify_log(FolderSource(day)).size
    assert resume.read(file.read_bytes())[0].size == size

    assert run(capsys, day, *audit)[0] == 0, "nothing new"
    write(day, a_longer_day(43).files())
    code, out, _ = run(capsys, day, *audit)
    assert (code, f"resumed {size} entries" in out) == (0, True)
    assert figures(out) == figures(run(capsys, day, "--jobs", jobs)[1])


def test_a_resumed_audit_still_finds_what_comes_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "position"
    before, town = a_longer_day(14), a_longer_day()
    assert run(capsys, write(tmp_path / "a", before.files()), "--resume", file)[0] == 0
    trade = of_type(town.entries, "trade", -1)
    assert trade["seq"] > len(before.entries)
    folder = write(tmp_path / "b", lie(town, lambda entries, rows: entries[trade["seq"]].update(energy_wh=9)))
    code, _, err = run(capsys, folder, "--resume", file)
    assert (code, err) == (1, f"entry {trade['seq']} (trade, {trade['at']}): energy_wh: expected 10, was 9\n")


def test_a_log_that_is_no_longer_what_was_audited_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "position"
    size = len(a_longer_day(14).entries)
    assert run(capsys, write(tmp_path / "a", a_longer_day(14).files()), "--resume", file)[0] == 0
    other = a_longer_day()
    fund = of_type(other.entries, "fund")
    folder = write(tmp_path / "b", lie(other, lambda entries, rows: entries[fund["seq"]].update(amount_e7=1)))
    code, _, err = run(capsys, folder, "--resume", file)
    assert (code, err.startswith(f"entries 0 to {size - 1}: expected the root ")) == (1, True)
    code, _, err = run(capsys, write(tmp_path / "c", a_longer_day(7).files()), "--resume", file)
    assert (code, f"expected at least the {size} entries seen before" in err) == (1, True)


def test_a_tampered_position_is_refused(day: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "position"
    assert run(capsys, day, "--resume", file)[0] == 0
    good = file.read_bytes()
    for bad in (
        good[:-1], good + b" ", b"", b"{}", good.replace(b'"size"', b'"sizf"'), good.replace(b"EUR", b"USD", 1),
        good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1 :],
    ):  # fmt: skip
        if bad == good:
            continue
        file.write_bytes(bad)
        code, _, err = run(capsys, day, "--resume", file)
        assert (code, err.startswith(f"{file}: expected")) == (2, True), bad[:40]
        assert file.read_bytes() == bad, "left for whoever wants to look at it"


def test_a_position_whose_hash_was_made_anew_must_still_be_the_state_that_was_sealed(day: Path, tmp_path: Path) -> None:
    file = tmp_path / "position"
    assert main([str(day), "--resume", str(file)]) == 0
    _, judge = resume.read(file.read_bytes())
    position, _ = resume.read(file.read_bytes())
    judge.engine.accounts[5].cash_e7 += 1
    with pytest.raises(resume.Refused, match="expected the state that the seal"):
        resume.read(resume.written(position, judge))


# --- where it runs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(day: Path) -> Iterator[str]:
    (day.parent / "ledger").symlink_to(day)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Say nothing."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(day.parent)))
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_address[1]}"
    made.shutdown()
    made.server_close()


def test_a_log_is_audited_over_the_web(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, server)
    assert (code, err, "follows from the rules" in out) == (0, "", True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market.audit.__main__.TICK_S", 0.0)
    for out, shows in ((Terminal(), True), (io.StringIO(), False)):
        progress = Progress(out)
        progress.show(0, 1_000)
        progress.show(500, 1_000)
        assert ("500 of 1,000 entries" in out.getvalue()) is shows
        progress.clear()
        assert out.getvalue().endswith("\r\x1b[K") is shows


@pytest.mark.django_db(transaction=True)
def test_the_demos_ledger_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """108 homes that trade, are measured and settled; then the export, as an auditor gets it."""
    with stepped(tmp_path) as market:
        market.run(4.5)
        market.catch_up()
        market.life.measure(market.clock.now_ms())
        market.life.settle(market.clock.now_ms())
    call_command("export_ledger", str(tmp_path / "log"), stdout=io.StringIO())
    code, out, err = run(capsys, tmp_path / "log", "--json", tmp_path / "verdict.json")
    assert (code, err) == (0, ""), out
    told = json.loads((tmp_path / "verdict.json").read_text())
    assert told["accounts"] == 108
    assert told["settled_rows"] >= 3 * 108
    assert told["types"]["snapshot"] >= 1
    assert told["types"]["trade"] > 100


def pins() -> list[str]:
    """Return the lines of requirements.txt that docs/ledger.md tells an auditor to install."""
    (pattern,) = re.findall(r"grep -E '(.*)' requirements.txt", (ROOT / "docs" / "ledger.md").read_text())
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line.split("#")[0].strip() for line in lines if re.search(pattern, line)]


@pytest.mark.once
def test_a_bare_environment_with_two_packages_is_enough(day: Path, tmp_path: Path) -> None:
    assert [pin.split("==")[0] for pin in sorted(pins())] == list(PINS)
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins()]
    installed = subprocess.run(install, capture_output=True, text=True)
    if installed.returncode and not os.environ.get("CI"):
        pytest.skip(f"pip cannot install {', '.join(pins())} here: {installed.stderr.strip().splitlines()[-1:]}")
    assert installed.returncode == 0, installed.stderr
    have = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True).stdout
    names = {package["name"] for package in orjson.loads(have)}
    assert names <= {"cryptography", "orjson", "cffi", "pycparser", "pip", "setuptools"}
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO", "SUNLEDGER"))
    }
    audit = [python, "-m", "market.audit", str(day), "--vkey", SIGNER.vkey]
    ran = subprocess.run(audit, cwd=ROOT, env=clean, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "every entry of it follows from the rules" in ran.stdout
    trade = of_type(a_longer_day().entries, "trade")
    write(day, lie(a_longer_day(), lambda entries, rows: entries[trade["seq"]].update(energy_wh=9)))
    ran = subprocess.run(audit, cwd=ROOT, env=clean, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr.startswith(f"entry {trade['seq']} (trade, ")) == (1, True)


def test_nothing_but_the_two_packages_is_loaded(day: Path) -> None:
    """What the audit imports, seen from inside: no Django, no driver, nobody else's package."""
    script = (
        "import sys; from market.audit.__main__ import main; code = main(sys.argv[1:]);"
        "print(code, sorted({name.split('.')[0] for name in sys.modules} & {'django', 'msgspec', 'psycopg2', 'sqlite3'}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(day), "--jobs", "1"], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.stdout.splitlines()[-1] == "0 []", ran.stderr
