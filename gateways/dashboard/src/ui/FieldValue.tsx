import { useId } from "react";
import type { components } from "../api/schema";

type Terms = components["schemas"]["TermsModel"];
export type Value = components["schemas"]["FilledModel"]["values"][string];

interface Props {
  name: string;
  terms: Pick<Terms, "kind" | "choices" | "description">;
  value: string | string[];
  onValue: (value: string | string[]) => void;
}

/** What a custom field holds, to be filled in. */
export function FieldValue({ name, terms, value, onValue }: Props) {
  const id = useId();
  const { kind, choices, description } = terms;
  if (kind === "multiple") {
    const chosen = Array.isArray(value) ? value : [];
    return (
      <fieldset className="field">
        <legend>{name}</legend>
        {choices.map((choice) => (
          <label key={choice} className="row">
            <input
              type="checkbox"
              checked={chosen.includes(choice)}
              onChange={(event) =>
                onValue(event.target.checked ? [...chosen, choice] : chosen.filter((one) => one !== choice))
              }
            />
            {choice}
          </label>
        ))}
      </fieldset>
    );
  }
  const text = Array.isArray(value) ? "" : value;
  const options = kind === "checkbox" ? ["yes", "no"] : choices;
  return (
    <div className="field">
      <label htmlFor={id}>{name}</label>
      {kind === "choice" || kind === "checkbox" ? (
        <select id={id} className="input" value={text} onChange={(event) => onValue(event.target.value)}>
          <option value="">–</option>
          {options.map((choice) => (
            <option key={choice}>{choice}</option>
          ))}
        </select>
      ) : (
        <input
          id={id}
          className="input"
          type={kind === "number" ? "number" : kind === "date" ? "date" : "text"}
          step={kind === "number" ? "any" : undefined}
          value={text}
          onChange={(event) => onValue(event.target.value)}
        />
      )}
      {description !== "" && <span className="hint">{description}</span>}
    </div>
  );
}

/** As the form holds it; what is empty is not filled in. */
export function writtenValue(value: Value | undefined): string | string[] {
  if (value === undefined || value === null) return "";
  if (Array.isArray(value)) return value;
  return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}

/** As the API takes it. */
export function readValue(kind: Terms["kind"], given: string | string[]): Value | null {
  if (given.length === 0) return null;
  if (Array.isArray(given)) return given;
  if (kind === "number") return Number(given);
  return kind === "checkbox" ? given === "yes" : given;
}

/** As it is read. */
export function shownValue(value: Value): string {
  return Array.isArray(value) ? value.join(", ") : typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}
