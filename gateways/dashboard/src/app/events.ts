import { useEffect, useRef } from "react";
import { useMay } from "../api/session";
import { type LogEvent, onEvent } from "../api/stream";
import { attended, useAttended } from "./attention";

/** How often who may not read the log asks instead. */
const POLL_MS = 10_000;

/** Hear of what is recorded while the component shows.
 *
 * @param hear is given each event; it may be another function at each rendering.
 */
export function useEvents(hear: (event: LogEvent) => void): void {
  const latest = useRef(hear);
  latest.current = hear;
  useEffect(() => onEvent((event) => latest.current(event)), []);
}

/** Hear, and then do something once for all that comes within a while.
 *
 * @param wanted says whether an event matters.
 * @param act is called at the soonest `everyMs` after it was called last, and not while nobody is there.
 */
export function useAfterEvents(wanted: (event: LogEvent) => boolean, act: () => void, everyMs = 1_000): void {
  const latest = useRef(act);
  latest.current = act;
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  const last = useRef(0);
  useEvents((event) => {
    if (timer.current !== null || !wanted(event)) return;
    const wait = Math.max(50, last.current + everyMs - Date.now());
    timer.current = setTimeout(() => {
      timer.current = null;
      last.current = Date.now();
      if (attended()) latest.current();
    }, wait);
  });
  useEffect(
    () => () => {
      if (timer.current !== null) clearTimeout(timer.current);
    },
    [],
  );
}

/** `refetchInterval` of a query: none for whom the stream tells, and none while nobody is there. */
export function usePolling(): number | false {
  const there = useAttended();
  return useMay()("events.see") || !there ? false : POLL_MS;
}
