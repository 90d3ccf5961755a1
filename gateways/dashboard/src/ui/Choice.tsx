import { type ReactNode, useId } from "react";

interface Props {
  label: string;
  value: string;
  required?: boolean;
  hint?: ReactNode;
  onChoose: (value: string) => void;
  /** What there is to choose from. */
  children: ReactNode;
}

/** One of several, with its name. */
export function Choice({ label, value, required, hint, onChoose, children }: Props) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <select
        id={id}
        className="input"
        required={required}
        value={value}
        onChange={(event) => onChoose(event.target.value)}
      >
        {children}
      </select>
      {hint !== undefined && <span className="hint">{hint}</span>}
    </div>
  );
}
