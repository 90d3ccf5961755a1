import { type FocusEvent, type ReactNode, useId, useLayoutEffect, useRef, useState } from "react";
import { Button } from "./Button";

interface Props {
  title: ReactNode;
  onClose: () => void;
  children: ReactNode;
  footer?: ReactNode;
  wide?: boolean;
  /** Escape asks nothing: what is typed here is soon typed again. */
  brief?: boolean;
}

type Typed = HTMLInputElement | HTMLTextAreaElement;

/** What somebody types into, as against what is looked for. */
const TYPED = "textarea, input:not([type=checkbox], [type=radio], [type=range], [type=file], [type=search])";
/** Where one begins, unless something is marked as that: not at a box that a stray blank would tick. */
const FIRST = ".body :is(textarea, select, input:not([type=checkbox], [type=radio], [type=file]))";

/** A window above the page. The browser keeps the focus inside and gives it back; Escape closes.
 *
 * Where something was typed that is not saved, Escape asks first, and again is the answer.
 */
export function Dialog({ title, onClose, children, footer, wide, brief }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  const before = useRef(new Map<Typed, string>());
  const [asked, setAsked] = useState(false);
  // It is closed while it is still in the page: the browser gives the focus back only then.
  useLayoutEffect(() => {
    const element = dialog.current;
    if (element !== null && !element.open) {
      element.showModal();
      (element.querySelector<HTMLElement>("[autofocus]") ?? element.querySelector<HTMLElement>(FIRST))?.focus();
    }
    return () => {
      element?.close();
      // What opened it may be gone by then, as with the last thing to do about something.
      const at = document.activeElement;
      if (at === document.body || element?.contains(at)) document.getElementById("page")?.focus();
    };
  }, []);
  const entered = ({ target }: FocusEvent): void => {
    if (target.matches(TYPED) && !before.current.has(target as Typed))
      before.current.set(target as Typed, (target as Typed).value);
  };
  const unsaved = (): boolean =>
    [...before.current].some(([field, was]) => field.isConnected && field.value !== "" && field.value !== was);
  return (
    <dialog
      ref={dialog}
      className={wide ? "dialog wide" : "dialog"}
      aria-labelledby={id}
      onFocus={entered}
      onInput={() => setAsked(false)}
      onCancel={(event) => {
        // A browser that was told to wait once closes at the second Escape, whatever it is told.
        const ask = event.cancelable && !brief && !asked && unsaved();
        event.preventDefault();
        if (ask) setAsked(true);
        else onClose();
      }}
    >
      <header>
        <h2 id={id}>{title}</h2>
        <Button look="plain" onClick={onClose} aria-label="Close">
          ✕
        </Button>
      </header>
      <div className="body">{children}</div>
      {asked && (
        <div className="notice warn unsaved" role="alert">
          <span className="grow">What you typed is not saved. Escape once more discards it.</span>
          <Button look="tiny" onClick={() => setAsked(false)}>
            Keep it
          </Button>
        </div>
      )}
      {footer !== undefined && <footer>{footer}</footer>}
    </dialog>
  );
}
