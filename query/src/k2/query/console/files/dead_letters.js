// Dead letters, and the raw bytes of one.
import * as api from "./api.js";
import { count, el, moment, table } from "./dom.js";

export function deadLetters(view, page, rest) {
  const where = el("div", { id: "dead-letters" });
  const frames = el("div", { id: "frames" });
  const frame = el("aside", { id: "frame", "aria-live": "polite" }, el("p", { class: "empty" }, "Select a dead letter to see its raw bytes."));
  view.append(el("div", { class: "line" }, el("h1", {}, "Dead letters")), where, frames, frame);
  if (rest.length === 3) page.run(() => open({ topic: rest[0], partition: rest[1], offset: rest[2] }));

  page.every(() => 15, async () => {
    await list(where, "Records rejected by Silver, newest first", { limit: 500 }, "No rejected records.");
    await list(frames, "Frames rejected by ingest, newest first", { limit: 500, stage: "ingest" }, "No rejected frames.");
  });

  async function list(place, title, query, empty) {
    const rows = await api.rows("v1/dead-letters", query, page.signal);
    if (place.contains(document.activeElement)) return; // do not steal the focus
    place.replaceChildren(table(title, [
      ["Time", (row) => moment(row.dead_lettered_at)],
      ["Exchange", (row) => row.exchange],
      ["Category", (row) => el("span", { class: "badge warn" }, row.error_category)],
      ["Error", (row) => row.error_message, "wide"],
      ["Record", (row) => `${row.topic} ${row.partition}:${row.offset}`],
      ["Bytes", (row) => count(row.bytes), "number"],
    ], rows, { pick: (row) => page.run(() => open(row)), empty }));
  }

  async function open(row) {
    const address = [row.topic, row.partition, row.offset].map(encodeURIComponent).join("/");
    history.replaceState(null, "", `#dead-letters/${address}`);
    const letter = await api.get(`v1/dead-letters/${address}`, {}, page.signal);
    const bytes = Uint8Array.from(atob(letter.value), (char) => char.charCodeAt(0));
    frame.replaceChildren(
      el("h2", {}, letter.error_category, " ", el("small", {}, `${letter.topic} ${letter.partition}:${letter.offset}`)),
      el("dl", {}, [
        ["error", letter.error_message], ["time", moment(letter.dead_lettered_at)], ["exchange", letter.exchange],
        ["schema id", letter.schema_id], ["bytes", count(bytes.length)],
        ...(letter.items ?? []).map((item) => [`item ${item.index ?? item.indexes}`, item.reason ?? `${item.count} more`]),
      ].filter(([, value]) => value !== null && value !== undefined).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))])),
      el("pre", { tabindex: 0, "aria-label": "Raw frame" }, letter.text ?? hex(bytes)),
    );
  }

  return { close: () => frame.replaceChildren() };
}

/** Format a hex dump, sixteen bytes per line: offset, hex, ASCII. */
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
