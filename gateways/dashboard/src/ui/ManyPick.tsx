import { type Option, Pick } from "./Pick";

interface Props {
  label: string;
  /** What is said where none is chosen. */
  none: string;
  values: readonly string[];
  options: readonly Option[];
  more?: boolean;
  onValues: (values: string[]) => void;
}

/** Several of however many: each that is chosen is shown, and can be taken out again. */
export function ManyPick({ label, none, values, options, more, onValues }: Props) {
  return (
    <div className="stack">
      <Pick
        label={label}
        value=""
        more={more}
        options={options.filter((one) => !values.includes(one.value))}
        onChoose={(value) => value !== "" && onValues([...values, value])}
      >
        <option value="">{values.length === 0 ? none : "add another…"}</option>
      </Pick>
      {values.length > 0 && (
        <div className="row wrap">
          {values.map((value) => {
            const name = options.find((one) => one.value === value)?.label ?? value;
            return (
              <button
                key={value}
                type="button"
                className="chip"
                aria-label={`Take out ${name}`}
                onClick={() => onValues(values.filter((one) => one !== value))}
              >
                <span className="clip">{name}</span> ✕
              </button>
            );
          })}
        </div>
      )}
    </div>
  );
}
