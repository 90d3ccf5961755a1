import { type ReactNode, useState } from "react";
import { Choice } from "./Choice";
import { Field } from "./Field";
import { figure } from "./figure";

export interface Option {
  value: string;
  label: string;
}

/** So many are chosen from at a glance. */
const FEW = 20;
/** More than these are not shown at once. */
const MOST = 100;

interface Props {
  label: string;
  value: string;
  required?: boolean;
  hint?: ReactNode;
  options: readonly Option[];
  /** There are more than these, and nobody has read them. */
  more?: boolean;
  onChoose: (value: string) => void;
  /** What may be chosen besides, before all others. */
  children?: ReactNode;
}

/** One of however many: a box narrows them, and it is said where not all are shown. */
export function Pick({ label, value, required, hint, options, more = false, onChoose, children }: Props) {
  const [wanted, setWanted] = useState("");
  const words = wanted.toLowerCase().split(/\s+/);
  const found = options.filter((one) => words.every((word) => one.label.toLowerCase().includes(word)));
  const shown = found.slice(0, MOST);
  const chosen = options.find((one) => one.value === value);
  const total = `${figure(options.length)}${more ? " that were read; there are more" : ""}`;
  return (
    <div className="stack">
      {(options.length > FEW || more) && (
        <Field
          label={`Narrow: ${label}`}
          type="search"
          placeholder="Part of the name"
          hint={
            <span aria-live="polite">
              {found.length > MOST || more
                ? `${shown.length} shown of ${found.length < options.length ? `${figure(found.length)} that fit, of ` : ""}${total}; type to narrow`
                : `${found.length} of ${total}`}
            </span>
          }
          value={wanted}
          onChange={(event) => setWanted(event.target.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter") return;
            // The form is not sent yet: what fits best is taken.
            event.preventDefault();
            const [first] = found;
            if (first !== undefined) onChoose(first.value);
          }}
        />
      )}
      <Choice label={label} value={value} required={required} hint={hint} onChoose={onChoose}>
        {children}
        {/* What is chosen stays chosen, whatever is typed. */}
        {chosen !== undefined && !shown.includes(chosen) && <option value={chosen.value}>{chosen.label}</option>}
        {shown.map((one) => (
          <option key={one.value} value={one.value}>
            {one.label}
          </option>
        ))}
      </Choice>
    </div>
  );
}
