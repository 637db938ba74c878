// "Check this receipt": everything is computed in this browser, by the Worker; the receipt does not leave it.
import { alarm } from "./ledger/guard";
import { evidenceLinks, reasonText } from "./ledger/alarm";
import { fromUtf8, utf8 } from "./ledger/bytes.ts";
import type { Finding, ReceiptAnswer, Verdict } from "./ledger/checker.ts";
import { checkReceipt } from "./ledger/client";
import { sentence } from "./ledger/findings";
import { alarms, kept, startAfresh } from "./ledger/kept";
import { dateTime } from "./format";
import { t } from "./messages";
import { announce } from "./status";

const MAX_FILE = 1 << 20;
const MARKS: Record<Verdict, string> = { good: "✓", bad: "✗", open: "?", note: "·" };

function element<K extends keyof HTMLElementTagNameMap>(tag: K, text = "", className = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function byId<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no #${id}`);
  return found as T;
}

/** A text area that also takes a file, chosen or dropped. The bytes of a file count as they are. */
class Source {
  private file: Uint8Array | null = null;
  readonly area: HTMLTextAreaElement;

  constructor(name: string) {
    this.area = byId<HTMLTextAreaElement>(name);
    const chooser = document.getElementById(`${name}-file`) as HTMLInputElement | null;
    chooser?.addEventListener("change", () => void this.take(chooser.files?.[0]));
    this.area.addEventListener("input", () => (this.file = null));
    const zone = this.area.closest<HTMLElement>(".drop") ?? this.area;
    zone.addEventListener("dragover", (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      void this.take(event.dataTransfer?.files[0]);
    });
  }

  private async take(file: File | undefined): Promise<void> {
    if (file && file.size <= MAX_FILE) this.set(new Uint8Array(await file.arrayBuffer()));
    else if (file) announce(t("This file is too large to be a receipt."));
  }

  set(bytes: Uint8Array): void {
    this.file = bytes;
    try {
      this.area.value = fromUtf8(bytes);
    } catch {
      this.area.value = "";
    }
  }

  /** The bytes, null for none. `end`: how a pasted text ends, whatever the clipboard made of it. */
  bytes(end: "\n" | ""): Uint8Array | null {
    if (this.file) return this.file;
    const text = this.area.value.replace(/\n+$/, "");
    return text.trim() ? utf8(text + end) : null;
  }
}

const receipt = new Source("receipt");
const leaf = new Source("leaf");
const checkpoint = new Source("checkpoint");
const keyArea = byId<HTMLTextAreaElement>("keys");
const result = byId("result");

function lines(findings: Finding[]): HTMLElement {
  const list = element("ul");
  for (const finding of findings) {
    const line = element("li", "", finding.verdict === "note" ? "neutral" : finding.verdict);
    const mark = element("span", MARKS[finding.verdict], "mark");
    mark.setAttribute("aria-hidden", "true");
    line.append(mark, element("span", sentence(finding)));
    list.append(line);
  }
  return list;
}

function table(title: string, fields: Record<string, string | number>): HTMLElement {
  const part = element("div");
  const list = element("dl", "", "path");
  for (const [name, value] of Object.entries(fields)) {
    const shown = element("dd");
    shown.append(element("code", String(value)));
    list.append(element("dt", name), shown);
  }
  part.append(element("h3", title), list);
  return part;
}

function show(answer: ReceiptAnswer): void {
  const texts = {
    good: answer.row ? t("Verified: this line is on the signed ledger.") : t("Verified: this entry is on the signed ledger."),
    bad: t("This does not fit together."),
    open: t("As far as this browser can tell, it fits."),
  };
  const verdict = element("h2", texts[answer.verdict], answer.verdict);
  verdict.tabIndex = -1;
  result.replaceChildren(verdict, lines(answer.findings));
  // What a receipt claims is shown only where nothing speaks against it.
  if (answer.verdict !== "bad" && answer.row) result.append(table(t("The line"), answer.row));
  if (answer.verdict !== "bad" && answer.entry) result.append(table(t("The entry"), answer.entry));
  result.dataset.verdict = answer.verdict;
  result.hidden = false;
  verdict.focus();
  announce(texts[answer.verdict]);
}

async function check(): Promise<void> {
  const bytes = receipt.bytes("\n");
  if (!bytes) {
    announce(t("Choose a receipt first."));
    receipt.area.focus();
    return;
  }
  const known = kept();
  const entered = keyArea.value.split(/\s+/).filter(Boolean);
  try {
    const answer = await checkReceipt({
      receipt: bytes,
      leaf: leaf.bytes(""),
      entered: entered.length > 0,
      keys: entered.length ? entered : (known?.keys ?? []),
      old: entered.length ? [] : (known?.old ?? []),
      kept: known?.note ?? "",
      given: checkpoint.bytes("\n"),
      here: known?.origin ?? "",
    });
    const signed = answer.findings.findIndex((finding) => finding.code === "signed" || finding.code === "signed_old");
    if (signed >= 0) {
      const code = entered.length ? "key_entered" : known ? "key_kept" : "key_named";
      answer.findings.splice(signed + 1, 0, { verdict: "note", code, values: { at: known ? dateTime(known.since) : "" } });
    }
    show(answer);
    // With a key of somebody's own choice it may be about any log; then it says nothing about this one.
    if (answer.conflict && !entered.length) {
      alarm(answer.conflict);
      showKept();
    }
  } catch {
    announce(t("The check could not be started in this browser."));
  }
}

// --- what this browser keeps
function showKept(): void {
  const place = byId("kept");
  const known = kept();
  if (known) {
    const list = element("dl", "", "path");
    const add = (name: string, value: string): void => {
      const shown = element("dd");
      shown.append(element("code", value));
      list.append(element("dt", name), shown);
    };
    known.keys.forEach((key) => add(t("Key of the log"), key));
    add(t("Known since"), dateTime(known.since));
    add(t("Entries"), String(known.size));
    add(t("Last compared"), dateTime(known.seen));
    place.replaceChildren(list);
    const note = element("pre", known.note, "note");
    note.tabIndex = 0;
    note.setAttribute("aria-label", t("The newest checkpoint this browser keeps"));
    place.append(note);
  } else {
    place.replaceChildren(element("p", t("Nothing yet. With the first visit it keeps the key that this site names and the newest checkpoint.")));
  }
  const evidence = byId("evidence");
  const found = alarms();
  evidence.hidden = !found.length;
  byId("alarms").replaceChildren(
    ...found.map((one) => {
      const part = element("div");
      part.append(element("p", `${dateTime(one.at)}: ${reasonText(one)}`), evidenceLinks(one));
      for (const [name, text] of [[t("From before"), one.first], [t("From now"), one.second]]) {
        if (!text) continue;
        const note = element("pre", text, "note");
        note.tabIndex = 0;
        note.setAttribute("aria-label", name);
        part.append(element("h3", name), note);
      }
      return part;
    }),
  );
}

const NAMED_TRIES = 5; // a new entry is under a signed checkpoint within a second or two
const NAMED_GAP_MS = 1000;

/** A link such as /ledger/check#receipt-412 brings the reader's own receipt with it. */
async function fetchNamed(): Promise<void> {
  const match = /^#receipt-(\d{1,16})$/.exec(window.location.hash);
  if (!match) return;
  for (let left = NAMED_TRIES; left > 0; left -= 1) {
    const response = await fetch(`/receipts/${match[1]}`, { credentials: "same-origin", redirect: "manual" }).catch(() => null);
    if (response?.ok) return receipt.set(new Uint8Array(await response.arrayBuffer()));
    if (response?.type !== "opaqueredirect") return; // only what is not sealed yet is sent elsewhere
    await new Promise((resolve) => window.setTimeout(resolve, NAMED_GAP_MS));
  }
}

byId<HTMLFormElement>("check").addEventListener("submit", (event) => {
  event.preventDefault();
  void check();
});
const sure = byId<HTMLInputElement>("afresh-sure");
const afresh = byId<HTMLButtonElement>("afresh");
sure.addEventListener("change", () => (afresh.disabled = !sure.checked));
afresh.addEventListener("click", () => {
  startAfresh();
  window.location.assign(window.location.pathname);
});
showKept();
document.addEventListener("sl-kept", showKept);
void fetchNamed();
