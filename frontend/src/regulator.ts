// The ledger explorer: "verify" in the reader's own browser, and lists that stay up to date.
import { pageData } from "./meta";
import { t } from "./messages";
import { fromBase64, fromHex, same, toHex } from "./ledger/bytes.ts";
import { leafHash, rootFromPath } from "./ledger/merkle.ts";
import { parseCheckpoint, parseKey, parseNote, signedBy } from "./ledger/note.ts";
import { startRefresh } from "./refresh";
import { startReplay } from "./replay";
import { announce } from "./status";

interface Evidence {
  note: string;
  vkey: string;
  seq?: number;
  leaf?: string; // base64
  hashes?: string[]; // hex, from leaf to root
}

type Verdict = "good" | "bad" | "open"; // open: this browser cannot tell

interface Finding {
  verdict: Verdict;
  text: string;
}

function entryFindings(evidence: Evidence, size: number, root: Uint8Array): Finding[] {
  if (evidence.seq === undefined || evidence.leaf === undefined) return [];
  const leaf = fromBase64(evidence.leaf);
  const hash = leafHash(leaf);
  const named = (JSON.parse(new TextDecoder().decode(leaf)) as { seq?: unknown }).seq;
  const findings: Finding[] = [
    { verdict: "good", text: t("Hash of the bytes: {hash}", { hash: toHex(hash) }) },
    named === evidence.seq
      ? { verdict: "good", text: t("The bytes name themselves entry {seq}.", { seq: evidence.seq }) }
      : { verdict: "bad", text: t("The bytes belong to another entry.") },
  ];
  let reached: Uint8Array | null = null;
  try {
    reached = rootFromPath(evidence.seq, size, hash, (evidence.hashes ?? []).map(fromHex));
  } catch {
    reached = null;
  }
  findings.push(
    reached !== null && same(reached, root)
      ? { verdict: "good", text: t("The path of {count} hashes leads to the root over {size} entries.", { count: evidence.hashes?.length ?? 0, size }) }
      : { verdict: "bad", text: t("The path does not lead to the signed root.") },
  );
  return findings;
}

async function examine(evidence: Evidence): Promise<Finding[]> {
  const note = parseNote(evidence.note);
  const checkpoint = parseCheckpoint(note.body);
  const key = parseKey(evidence.vkey);
  const findings = entryFindings(evidence, checkpoint.size, checkpoint.root);
  if (checkpoint.origin !== key.name) {
    findings.push({ verdict: "bad", text: t("The checkpoint belongs to another log.") });
    return findings;
  }
  const signed = await signedBy(note, key);
  if (signed === null) {
    findings.push({ verdict: "open", text: t("This browser cannot check Ed25519 signatures. Check the receipt on the command line.") });
  } else {
    findings.push(
      signed
        ? { verdict: "good", text: t("The signature under the checkpoint is by {name}.", { name: key.name }) }
        : { verdict: "bad", text: t("The signature under the checkpoint is not by this log's key.") },
    );
  }
  return findings;
}

function conclude(findings: Finding[], what: string): Finding {
  if (findings.some((finding) => finding.verdict === "bad")) return { verdict: "bad", text: t("This does not fit together.") };
  if (findings.some((finding) => finding.verdict === "open")) return { verdict: "open", text: t("As far as this browser can tell, it fits.") };
  return { verdict: "good", text: what === "entry" ? t("Verified: this entry is on the signed ledger.") : t("Verified: the log signed this checkpoint.") };
}

const MARKS: Record<Verdict, string> = { good: "✓", bad: "✗", open: "?" };

/** <sl-verify data-source="ID of the evidence" data-what="entry|checkpoint">: a button and what it found. */
class Verify extends HTMLElement {
  private button!: HTMLButtonElement;
  private list!: HTMLElement;

  connectedCallback(): void {
    if (this.button) return;
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.className = "main";
    this.button.textContent = t("Verify in this browser");
    this.button.addEventListener("click", () => void this.verify());
    this.list = document.createElement("div");
    this.list.className = "findings";
    this.append(this.button, this.list);
  }

  private async verify(): Promise<void> {
    this.button.disabled = true;
    try {
      const evidence = pageData<Evidence>(this.dataset.source ?? "");
      if (!window.isSecureContext || !crypto.subtle) {
        this.show([{ verdict: "open", text: t("The browser offers its cryptography only over HTTPS. Check the receipt on the command line.") }]);
      } else if (evidence) {
        const findings = await examine(evidence);
        this.show([...findings, conclude(findings, this.dataset.what ?? "")]);
      }
    } catch {
      this.show([{ verdict: "bad", text: t("This does not fit together.") }]);
    } finally {
      this.button.disabled = false;
    }
  }

  private show(findings: Finding[]): void {
    const lines = findings.map((finding) => {
      const line = document.createElement("li");
      line.className = finding.verdict;
      const mark = document.createElement("span");
      mark.className = "mark";
      mark.setAttribute("aria-hidden", "true");
      mark.textContent = MARKS[finding.verdict];
      const text = document.createElement("span");
      text.textContent = finding.text;
      line.append(mark, text);
      return line;
    });
    const list = document.createElement("ul");
    list.append(...lines);
    this.list.replaceChildren(list);
    const last = findings[findings.length - 1];
    this.dataset.verdict = last.verdict;
    announce(last.text);
  }
}

customElements.define("sl-verify", Verify);
startReplay();
startRefresh();
