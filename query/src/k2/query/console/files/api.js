// Client of the HTTP API. The key is kept in this tab's session storage.

const ROOT = new URL("../", location.href);
const KEY = "k2-key";

/** An error response of the API. */
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

/** Get JSON. Throws `Problem`. */
export async function get(path, query = {}, signal = undefined) {
  return (await request(path, query, { Accept: "application/json" }, signal)).json();
}

/** Get the rows of a response; empty if the table does not exist yet. */
export async function rows(path, query = {}, signal = undefined) {
  try {
    return (await get(path, query, signal)).data;
  } catch (error) {
    if (error instanceof Problem && error.status === 503 && error.message.includes("there is no table")) return [];
    throw error;
  }
}

async function request(path, query, headers, signal) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  if (key()) headers.Authorization = `Bearer ${key()}`;
  let response;
  try {
    response = await fetch(url, { headers, signal, credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "the server cannot be reached");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Problem(response.status, body.detail ?? `the server responded with status ${response.status}`);
}

/**
 * Stream live records until `signal` aborts. A broken stream is resumed after its last event.
 * `record` is called with the data of each `event`, `state` with "live", or with "waiting" or "off" and a reason.
 */
export async function stream(query, { event: wanted, record, state }, signal) {
  let last = "";
  let delay = 1000;
  while (!signal.aborted) {
    try {
      const headers = { Accept: "text/event-stream" };
      if (last) headers["Last-Event-ID"] = last;
      const response = await request("v1/stream", query, headers, signal);
      state("live", "");
      delay = 1000;
      for await (const event of events(response.body)) {
        if (event.id) last = event.id;
        if (event.event === wanted) record(JSON.parse(event.data));
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
    await new Promise((done) => setTimeout(done, delay));
    delay = Math.min(delay * 2, 15000);
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value.replaceAll("\r\n", "\n");
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const event = { event: "message", data: "", id: "" };
      for (const line of block.split("\n")) {
        const [, name, text] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
        if (name === "data") event.data += text;
        else if (name in event) event[name] = text;
      }
      if (event.data || event.id) yield event; // a heartbeat has only an id
    }
  }
}
