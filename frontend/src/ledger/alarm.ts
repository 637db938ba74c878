// The banner of a log that broke what this browser knew. It stays, on every page, until a person decides otherwise.
import { GAP, sentences } from "../format";
import { t } from "../messages";
import type { Alarm } from "./kept";
import { alarms } from "./kept";

export function reasonText(alarm: Alarm): string {
  const reasons: Record<Alarm["code"], string> = {
    forked: t("The ledger shows another history than before: two checkpoints that cannot both be true."),
    shrunk: t("The ledger has fewer entries than before."),
    unsigned: t("The newest checkpoint is not signed by the key this browser knows."),
    withheld: t("The ledger does not show that it continues what it showed before."),
  };
  return reasons[alarm.code];
}

/** Links that save both checkpoints as files, in the form that other verifiers read. */
export function evidenceLinks(alarm: Alarm): HTMLElement {
  const row = document.createElement("p");
  row.className = "row";
  const add = (text: string, name: string, note: string): void => {
    if (!note) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([note], { type: "text/plain" }));
    link.download = name;
    link.textContent = text;
    row.append(link);
  };
  add(t("Save the checkpoint from before"), "checkpoint-before.txt", alarm.first);
  add(t("Save the checkpoint from now"), "checkpoint-now.txt", alarm.second);
  return row;
}

export function showAlarm(): void {
  const [alarm] = alarms();
  if (!alarm || document.getElementById("ledger-alarm")) return;
  const banner = document.createElement("section");
  banner.id = "ledger-alarm";
  banner.className = "notices";
  const box = document.createElement("div");
  box.className = "notice error";
  box.setAttribute("role", "alert");
  const text = document.createElement("p");
  const loud = document.createElement("b");
  loud.textContent = t("Do not trust this ledger for now.");
  text.append(loud, GAP, sentences([reasonText(alarm), t("Save the evidence and show it to the regulator.")]));
  const links = evidenceLinks(alarm);
  const more = document.createElement("a");
  more.href = "/ledger/check#evidence";
  more.textContent = t("What this means");
  links.append(more);
  box.append(text, links);
  banner.append(box);
  banner.setAttribute("aria-label", t("Alarm about the ledger"));
  document.getElementById("main")?.before(banner);
}
