import { useSyncExternalStore } from "react";

/** Whether the server answers. Requests and the stream tell; the banner and the recovery listen. */
export interface Connection {
  lost: boolean;
  since: number | null;
}

let state: Connection = { lost: false, since: null };
const listeners = new Set<() => void>();
let probing: ReturnType<typeof setTimeout> | null = null;

function change(next: Connection): void {
  state = next;
  for (const listener of listeners) listener();
}

export function answered(): void {
  if (state.lost) change({ lost: false, since: null });
}

export function notAnswered(): void {
  if (!state.lost) {
    change({ lost: true, since: Date.now() });
    probe(1000);
  }
}

/** Ask until somebody answers, less and less often, and never all browsers at once. */
function probe(waitMs: number): void {
  if (probing !== null) clearTimeout(probing);
  probing = setTimeout(
    async () => {
      probing = null;
      try {
        const response = await fetch("/readyz", { cache: "no-store" });
        if (response.ok) {
          answered();
          return;
        }
      } catch {
        // Still away: that is what is being found out.
      }
      if (state.lost) probe(Math.min(waitMs * 1.6, 10_000));
    },
    waitMs * (0.75 + Math.random() / 2),
  );
}

export function probeNow(): void {
  if (state.lost) probe(0);
}

export function onConnection(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function connection(): Connection {
  return state;
}

export function useConnection(): Connection {
  return useSyncExternalStore(onConnection, connection);
}
