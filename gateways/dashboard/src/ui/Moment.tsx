import { Field } from "./Field";

interface Props {
  label: string;
  hint?: string;
  /** As the input has it: by the viewer's own clock, and empty for none. */
  value: string;
  onValue: (value: string) => void;
}

/** A day and a time. */
export function Moment({ label, hint, value, onValue }: Props) {
  return (
    <Field
      label={label}
      hint={hint}
      type="datetime-local"
      value={value}
      onChange={(event) => onValue(event.target.value)}
    />
  );
}

/** What was typed as the API takes it; null where nothing was. */
export function instant(value: string): string | null {
  return value === "" ? null : new Date(value).toISOString();
}
