import { type RefObject, useEffect, useRef } from "react";

/** Of a `<details class="menu">`: Escape closes it, and so does a press elsewhere. */
export function useMenu(): RefObject<HTMLDetailsElement | null> {
  const menu = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      const element = menu.current;
      if (event.key !== "Escape" || element?.open !== true) return;
      // A window above the page takes the key for itself.
      if ((event.target as Element).closest("dialog") !== null) return;
      element.open = false;
      element.querySelector("summary")?.focus();
    };
    const point = (event: PointerEvent): void => {
      if (menu.current?.contains(event.target as Node) === false) menu.current.open = false;
    };
    document.addEventListener("keydown", press);
    document.addEventListener("pointerdown", point);
    return () => {
      document.removeEventListener("keydown", press);
      document.removeEventListener("pointerdown", point);
    };
  }, []);
  return menu;
}
