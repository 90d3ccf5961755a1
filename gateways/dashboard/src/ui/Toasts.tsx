import { type ReactNode, useSyncExternalStore } from "react";
import { isProblem, sentence } from "../api/problem";
import { Button } from "./Button";

interface Toast {
  id: number;
  kind: "ok" | "bad" | "warn";
  text: ReactNode;
}

let toasts: readonly Toast[] = [];
let next = 1;
const listeners = new Set<() => void>();

function change(to: readonly Toast[]): void {
  toasts = to;
  for (const listener of listeners) listener();
}

/** Say something that needs no answer; errors stay until they are closed. */
export function toast(text: ReactNode, kind: Toast["kind"] = "ok"): void {
  const id = next++;
  change([...toasts.slice(-3), { id, kind, text }]);
  if (kind === "ok") setTimeout(() => close(id), 5_000);
}

export function toastError(error: unknown): void {
  if (isProblem(error, "approval_awaited")) toast(sentence(error), "warn");
  else toast(sentence(error), "bad");
}

function close(id: number): void {
  change(toasts.filter((one) => one.id !== id));
}

export function Toasts() {
  const shown = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => toasts,
  );
  return (
    <div className="toasts" role="status" aria-live="polite">
      {shown.map((one) => (
        <div key={one.id} className={`notice ${one.kind}`}>
          <div className="grow">{one.text}</div>
          <Button look="plain tiny" onClick={() => close(one.id)} aria-label="Close this message">
            ✕
          </Button>
        </div>
      ))}
    </div>
  );
}
