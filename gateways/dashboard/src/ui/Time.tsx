import { useState, useSyncExternalStore } from "react";

const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "narrow" });
const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];
const TICK_MS = 10_000;

let now = Date.now();
const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;

/** One clock for all times on the page. */
function listen(listener: () => void): () => void {
  listeners.add(listener);
  timer ??= setInterval(() => {
    now = Date.now();
    for (const one of listeners) one();
  }, TICK_MS);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

/** How long ago, or until when: "3 min ago".
 *
 * @param over it is past for certain, even if the server's clock is ahead of this one: never "now".
 */
export function relative(at: string, from = Date.now(), over = false): string {
  const seconds = (Date.parse(at) - from) / 1000;
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) {
      // What is past counts in whole units; what is to come in the nearest.
      return RELATIVE.format(seconds < 0 ? Math.trunc(seconds / size) : Math.round(seconds / size), unit);
    }
  }
  if (over) return `${Math.max(1, Math.round(-seconds))}s ago`;
  return seconds < -10 ? `${Math.round(-seconds)}s ago` : seconds > 10 ? `in ${Math.round(seconds)}s` : "now";
}

export function exact(at: string): string {
  return EXACT.format(new Date(at));
}

/** A moment as people say it; the exact one, in the viewer's zone, where the pointer or the keyboard rests on it. */
export function Time({ at, over = false }: { at: string | null | undefined; over?: boolean }) {
  const moment = useSyncExternalStore(listen, () => now);
  const [rests, setRests] = useState(false);
  if (!at) return <span className="muted">never</span>;
  return (
    <time
      dateTime={at}
      title={exact(at)}
      className="nowrap"
      // Who has no pointer comes to the exact moment like this.
      tabIndex={0}
      onFocus={() => setRests(true)}
      onBlur={() => setRests(false)}
    >
      {rests ? exact(at) : relative(at, Math.max(moment, Date.now() - TICK_MS), over)}
    </time>
  );
}

/** "1.4 s", "3 min 20 s". */
export function duration(ms: number): string {
  if (ms < 1000) return `${ms} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
