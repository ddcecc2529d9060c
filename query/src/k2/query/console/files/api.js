// The API as the views see it. The key stays in this tab.

const ROOT = new URL("../", location.href);
const KEY = "k2-key";

/** What the API said in the place of an answer. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const key = () => sessionStorage.getItem(KEY) ?? "";

export function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

/** An answer. Raises `Problem`. */
export async function get(path, query = {}, signal = undefined) {
  return (await ask(path, query, { Accept: "application/json" }, signal)).json();
}

/** The rows of an answer; none where the table that would hold them is not there yet. */
export async function rows(path, query = {}, signal = undefined) {
  try {
    return (await get(path, query, signal)).data;
  } catch (error) {
    if (error instanceof Problem && error.status === 503 && error.message.includes("there is no table")) return [];
    throw error;
  }
}

async function ask(path, query, headers, signal) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  if (key()) headers.Authorization = `Bearer ${key()}`;
  let answer;
  try {
    answer = await fetch(url, { headers, signal, credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "the server cannot be reached");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, told.detail ?? `the server answered ${answer.status}`);
}

/**
 * Trades as they come, until `signal` ends it. A stream that breaks is resumed after its last event.
 * `trade` gets each trade, `state` hears "live", or "waiting" or "off" and why.
 */
export async function stream(query, { trade, state }, signal) {
  let last = "";
  let pause = 1000;
  while (!signal.aborted) {
    try {
      const headers = { Accept: "text/event-stream" };
      if (last) headers["Last-Event-ID"] = last;
      const answer = await ask("v1/stream", query, headers, signal);
      state("live", "");
      pause = 1000;
      for await (const event of events(answer.body)) {
        if (event.id) last = event.id;
        if (event.event === "trade") trade(JSON.parse(event.data));
      }
      state("waiting", "the stream ended; resuming");
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && [401, 403, 404].includes(error.status)) {
        state("off", error.message);
        return;
      }
      if (error instanceof Problem && [400, 410].includes(error.status)) last = "";
      state("waiting", error.message);
    }
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(pause * 2, 15000);
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value.replaceAll("\r\n", "\n");
    const blocks = held.split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      const found = { event: "message", data: "", id: "" };
      for (const line of block.split("\n")) {
        const [, name, text] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
        if (name === "data") found.data += text;
        else if (name in found) found[name] = text;
      }
      if (found.data || found.id) yield found; // of silence comes an id alone
    }
  }
}
