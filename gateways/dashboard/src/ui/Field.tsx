import { type InputHTMLAttributes, type ReactNode, useId } from "react";

interface Props extends InputHTMLAttributes<HTMLInputElement> {
  label: string;
  hint?: ReactNode;
  wrong?: string | undefined;
}

/** A window that opens gives the focus to what has this attribute, and React writes none. */
function begin(input: HTMLInputElement | null): void {
  input?.setAttribute("autofocus", "");
}

/** An input with its name, what helps to fill it in, and what is wrong with it. */
export function Field({ label, hint, wrong, ...rest }: Props) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        ref={rest.autoFocus ? begin : undefined}
        className="input"
        aria-invalid={wrong !== undefined || undefined}
        aria-describedby={`${id}-more`}
        {...rest}
      />
      <div id={`${id}-more`}>
        {wrong !== undefined && <div className="wrong">{wrong}</div>}
        {hint !== undefined && <div className="hint">{hint}</div>}
      </div>
    </div>
  );
}
