import type { ButtonHTMLAttributes } from "react";

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: "primary" | "danger" | "plain" | "tiny" | "plain tiny" | "danger tiny";
  busy?: boolean;
}

export function Button({ look, busy, children, className, disabled, ...rest }: Props) {
  const classes = ["button", look, className].filter(Boolean).join(" ");
  return (
    <button type="button" {...rest} className={classes} disabled={disabled || busy} aria-busy={busy || undefined}>
      {busy && <span className="spinner" aria-hidden="true" />}
      {children}
    </button>
  );
}
