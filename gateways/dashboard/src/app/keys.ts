import { useEffect, useRef } from "react";

export interface Key {
  key: string;
  about: string;
  run: (event: KeyboardEvent) => void;
}

const shown = new Map<symbol, readonly Key[]>();

/** What the keyboard does just now, for the page of help. */
export function keysNow(): readonly Key[] {
  return [...shown.values()].flat();
}

/** Keys of a page: a letter by itself, as long as nobody is typing and no dialog is open.
 *
 * Enter is for the link or button that has the focus, where one has it.
 */
export function useKeys(keys: readonly Key[]): void {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const id = Symbol("keys");
    const press = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const target = event.target as HTMLElement;
      // Nobody types into a box that is ticked.
      if (target.closest("input:not([type=checkbox]), textarea, select, [contenteditable], dialog") !== null) return;
      if (event.key === "Enter" && target.closest("a, button, summary, input") !== null) return;
      const found = latest.current.find((one) => one.key === event.key);
      if (found !== undefined) {
        event.preventDefault();
        found.run(event);
      }
    };
    shown.set(id, latest.current);
    window.addEventListener("keydown", press);
    return () => {
      shown.delete(id);
      window.removeEventListener("keydown", press);
    };
  }, []);
}
