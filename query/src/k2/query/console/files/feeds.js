// Layers with freshness and rows; gaps with their state.
import * as api from "./api.js";
import { age, count, el, moment, table } from "./dom.js";

const LAYERS = ["bronze", "silver", "gold"];
const LATE = { bronze: 120, silver: 180, gold: 300 }; // seconds

export function layers(view, page) {
  const where = el("div", { id: "layers" });
  view.append(el("div", { class: "line" }, el("h1", {}, "Layers")), where);
  page.every(() => 5, async () => {
    const feeds = await api.rows("v1/feeds", {}, page.signal);
    const rows = feeds.flatMap((feed) => LAYERS.map((layer) => ({ feed, layer, status: feed.layers[layer] ?? {} })));
    where.replaceChildren(
      table("Layers of each exchange", [
        ["Exchange", (row) => (row.layer === "bronze" ? row.feed.exchange : "")],
        ["Layer", (row) => row.layer],
        ["Rows", (row) => count(row.status.rows), "number"],
        ["Newest commit", (row) => freshness(row), "number"],
        ["Batches", (row) => count(row.status.batches), "number"],
        ["Rows in", (row) => count(row.status.rows_in), "number"],
        ["Rows out", (row) => count(row.status.rows_out), "number"],
        ["Dead letters", (row) => count(row.status.dead_letters), "number"],
        ["Duplicates dropped", (row) => count(row.status.duplicates_dropped), "number"],
      ], rows, { empty: "No data yet." }),
      table("Completeness of each exchange", [
        ["Exchange", (row) => row.exchange],
        ["Symbols", (row) => count(row.symbols), "number"],
        ["Open gaps", (row) => badge(row.gaps.open, "bad"), "number"],
        ["Repaired gaps", (row) => count(row.gaps.repaired), "number"],
        ["Unrecoverable gaps", (row) => badge(row.gaps.unrecoverable, "bad"), "number"],
        ["Dead letters", (row) => badge(row.dead_letters, "warn"), "number"],
        ["Hours complete", (row) => count((row.hours.complete ?? 0) + (row.hours.repaired ?? 0)), "number"],
        ["Hours missing ids", (row) => badge(row.hours.missing ?? 0, "bad"), "number"],
      ], feeds, { empty: "No data yet." }),
    );
  });
  return {};
}

function freshness({ layer, status }) {
  if (status.age_seconds === undefined) return "";
  const kind = status.age_seconds > LATE[layer] ? "warn" : "good";
  return el("span", { class: `badge ${kind}`, title: moment(status.committed_at) }, age(status.age_seconds));
}

const badge = (n, kind) => (n ? el("span", { class: `badge ${kind}` }, count(n)) : "0");

export function gaps(view, page) {
  let state = "";
  const choices = el("div", { role: "group", "aria-label": "State", class: "choices" }, ["", "open", "repaired", "never_issued", "unrecoverable"].map((name) => el("button", {
    type: "button", "data-only": name, onclick: () => { state = name; page.run(load); },
  }, name || "all")));
  const where = el("div", { id: "gaps" });
  view.append(el("div", { class: "line" }, el("h1", {}, "Gaps"), el("span", { class: "grow" }), choices), where);

  async function load() {
    for (const button of choices.children) button.setAttribute("aria-pressed", String(button.dataset.only === state));
    const rows = await api.rows("v1/gaps", { state, limit: 500 }, page.signal);
    where.replaceChildren(table("Gaps in the exchanges' sequences, newest first", [
      ["Detected", (row) => moment(row.detected_at)],
      ["Exchange", (row) => row.exchange],
      ["Symbol", (row) => row.symbol],
      ["First id", (row) => row.first_id, "number"],
      ["Last id", (row) => row.last_id, "number"],
      ["State", (row) => el("span", { class: `badge ${{ repaired: "good", open: "warn" }[row.state] ?? "bad"}` }, row.state)],
      ["Resolution", (row) => row.resolution],
      ["Repaired after", (row) => (row.resolved_at ? age((Date.parse(row.resolved_at) - Date.parse(row.detected_at)) / 1000) : ""), "number"],
    ], rows, { empty: state ? `No ${state} gaps.` : "No gaps." }));
  }

  page.every(() => 10, load);
  return {};
}
