import { createParser } from "eventsource-parser";
import { answered, connection, notAnswered } from "./connection";
import type { components } from "./schema";

export type LogEvent = components["schemas"]["EventModel"];
type Listener = (event: LogEvent) => void;

const CHANNEL = "fleetlog-events";
const LOCK = "fleetlog-events";
/** The server says something every 15 s; who is silent for longer is gone. */
const SILENT_MS = 40_000;

/** So soon after it was begun, nothing that happened before it was heard can be missing from what is shown. */
const BEGINNING_MS = 2_000;

const listeners = new Set<Listener>();
const missing = new Set<() => void>();
let stop: (() => void) | null = null;

/** Hear of everything that is recorded from now on, as far as the person may see it. */
export function onEvent(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Called where something may have happened that nobody told of. */
export function onMissed(listener: () => void): () => void {
  missing.add(listener);
  return () => missing.delete(listener);
}

function tell(event: LogEvent): void {
  for (const listener of listeners) listener(event);
}

/** Begin to listen. Of all tabs of a browser one holds the stream and tells the others: a browser opens few connections
 * to a server, and each stream would keep one. When that tab closes, another takes over where it was. */
export function startStream(): void {
  if (stop !== null) return;
  const control = new AbortController();
  const channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(CHANNEL);
  const begun = Date.now();
  let last: string | null = null;
  const hear = (event: LogEvent): void => {
    last = String(event.position);
    tell(event);
  };
  if (channel !== null) channel.onmessage = (message) => hear(message.data as LogEvent);
  const hold = (): Promise<void> =>
    follow(
      "/api/v1/events/stream",
      () => last,
      (data) => {
        const event = JSON.parse(data) as LogEvent;
        hear(event);
        channel?.postMessage(event);
      },
      control.signal,
      () => {
        // With a position to go on from, the server tells all that came since; without one it tells what comes next.
        if (last === null && Date.now() - begun > BEGINNING_MS) for (const listener of missing) listener();
      },
    );
  if (navigator.locks && channel !== null) {
    navigator.locks.request(LOCK, { signal: control.signal }, hold).catch((error: unknown) => {
      if (!control.signal.aborted) throw error;
    });
  } else {
    void hold();
  }
  stop = () => {
    control.abort();
    channel?.close();
  };
}

export function stopStream(): void {
  stop?.();
  stop = null;
}

/** The server is there, and gives no stream just now. */
class TurnedAwayError extends Error {
  constructor(status: number) {
    super(`The stream answered ${status}.`);
  }
}

/** Follow one stream until it is aborted, or refused for good; after a break it goes on where it was.
 *
 * @param url of the stream.
 * @param lastId of the last event that was heard, to go on after it.
 * @param hear is given each event's data, name and id; returns false where nothing follows any more.
 * @param signal ends it.
 * @param opened is called each time that it begins, or begins again.
 */
export async function follow(
  url: string,
  lastId: () => string | null,
  hear: (data: string, name: string, id: string | null) => unknown,
  signal: AbortSignal,
  opened?: () => void,
): Promise<void> {
  let waitMs = 500;
  while (!signal.aborted) {
    const attempt = new AbortController();
    const end = (): void => attempt.abort();
    signal.addEventListener("abort", end, { once: true });
    let silence = setTimeout(end, SILENT_MS);
    try {
      const id = lastId();
      const response = await fetch(url, {
        headers: id === null ? {} : { "Last-Event-ID": id },
        signal: attempt.signal,
        cache: "no-store",
      });
      if (response.status >= 400 && response.status < 500 && response.status !== 429) return;
      if (!response.ok || response.body === null) throw new TurnedAwayError(response.status);
      answered();
      opened?.();
      waitMs = 500;
      let going = true;
      const parser = createParser({
        onEvent: (event) => {
          if (hear(event.data, event.event ?? "message", event.id ?? null) === false) going = false;
        },
      });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      while (going) {
        const { value, done } = await reader.read();
        if (done) break;
        clearTimeout(silence);
        silence = setTimeout(end, SILENT_MS);
        parser.feed(value);
      }
      if (!going) {
        await reader.cancel();
        return;
      }
    } catch (error) {
      if (signal.aborted) return;
      // A server that has too much to do has answered; it is asked again in a while.
      if (!(error instanceof TurnedAwayError)) notAnswered();
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", end);
    }
    await pause(waitMs * (0.75 + Math.random() / 2), signal);
    waitMs = Math.min(waitMs * 1.7, connection().lost ? 8_000 : 4_000);
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
