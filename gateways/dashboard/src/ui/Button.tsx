import type { ButtonHTMLAttributes } from "react";

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: "primary" | "danger" | "plain" | "tiny" | "plain tiny" | "danger tiny";
  busy?: boolean;
}

/** While it is busy it does nothing more, and keeps the focus: what is disabled would lose it. */
export function Button({ look, busy, children, className, onClick, ...rest }: Props) {
  const classes = ["button", look, className].filter(Boolean).join(" ");
  return (
    <button
      type="button"
      {...rest}
      className={classes}
      aria-disabled={busy || undefined}
      aria-busy={busy || undefined}
      onClick={busy ? (event) => event.preventDefault() : onClick}
    >
      {busy && <span className="spinner" aria-hidden="true" />}
      {children}
    </button>
  );
}
