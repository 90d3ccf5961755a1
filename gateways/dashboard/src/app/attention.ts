import { useSyncExternalStore } from "react";

/** After so long without a hand on the page it asks for nothing by itself. Each request keeps the session from being
 * idle, and one that is left open on an empty desk has to end in its time. What the stream tells goes on being shown. */
const ALONE_MS = 10 * 60_000;

let there = true;
let timer: ReturnType<typeof setTimeout> | null = null;
const listeners = new Set<() => void>();

function change(to: boolean): void {
  if (there === to) return;
  there = to;
  for (const listener of listeners) listener();
}

function touched(): void {
  if (timer !== null) clearTimeout(timer);
  timer = setTimeout(() => change(false), ALONE_MS);
  change(true);
}

/** Begin to notice whether somebody is there. */
export function watchAttention(): void {
  for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"]) {
    window.addEventListener(kind, touched, { passive: true, capture: true });
  }
  touched();
}

export function attended(): boolean {
  return there;
}

export function onAttention(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useAttended(): boolean {
  return useSyncExternalStore(onAttention, attended);
}
