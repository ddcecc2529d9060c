// Dead letters, and the bytes of one as they came.
import * as api from "./api.js";
import { count, el, moment, table } from "./dom.js";

export function letters(view, page, rest) {
  const where = el("div", { id: "letters" });
  const frames = el("div", { id: "frames" });
  const frame = el("aside", { id: "frame", "aria-live": "polite" }, el("p", { class: "empty" }, "Enter on a dead letter shows its raw bytes."));
  view.append(el("div", { class: "line" }, el("h1", {}, "Dead letters")), where, frames, frame);
  if (rest.length === 3) page.told(() => open({ topic: rest[0], partition: rest[1], offset: rest[2] }));

  page.every(() => 15, async () => {
    await list(where, "What Silver could not use, the newest first", { limit: 500 }, "Every record could be trusted.");
    await list(frames, "What an ingest could not use, the newest first", { limit: 500, stage: "ingest" }, "Every frame could be trusted.");
  });

  async function list(place, title, query, empty) {
    const found = await api.rows("v1/dead-letters", query, page.signal);
    if (place.contains(document.activeElement)) return; // somebody moves in the list
    place.replaceChildren(table(title, [
      ["When", (row) => moment(row.dlq_timestamp)],
      ["Exchange", (row) => row.exchange],
      ["Category", (row) => el("span", { class: "badge warn" }, row.error_category)],
      ["Why", (row) => row.error_message, "wide"],
      ["Place", (row) => `${row.topic} ${row.partition}:${row.offset}`],
      ["Bytes", (row) => count(row.bytes), "number"],
    ], found, { pick: (row) => page.told(() => open(row)), empty }));
  }

  async function open(row) {
    const address = [row.topic, row.partition, row.offset].map(encodeURIComponent).join("/");
    history.replaceState(null, "", `#letters/${address}`);
    const found = await api.get(`v1/dead-letters/${address}`, {}, page.signal);
    const bytes = Uint8Array.from(atob(found.value), (char) => char.charCodeAt(0));
    frame.replaceChildren(
      el("h2", {}, found.error_category, " ", el("small", {}, `${found.topic} ${found.partition}:${found.offset}`)),
      el("dl", {}, [
        ["why", found.error_message], ["when", moment(found.dlq_timestamp)], ["exchange", found.exchange],
        ["schema id", found.schema_id], ["bytes", count(bytes.length)],
      ].filter(([, value]) => value !== null && value !== undefined).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))])),
      el("pre", { tabindex: 0, "aria-label": "Raw frame" }, found.text ?? hex(bytes)),
    );
  }

  return { close: () => frame.replaceChildren() };
}

/** Sixteen bytes a line: where, as numbers, as characters. */
function hex(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const part = [...bytes.slice(at, at + 16)];
    const numbers = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    const characters = part.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${numbers}  ${characters}`);
  }
  return lines.join("\n");
}
