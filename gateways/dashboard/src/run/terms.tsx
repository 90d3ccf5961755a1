import type { components } from "../api/schema";
import { Choice } from "../ui/Choice";
import { Field } from "../ui/Field";

type Start = components["schemas"]["StartRollout"];
type Weekday = NonNullable<NonNullable<Start["hours"]>["days"]>[number];

/** How a rollout goes, as it is typed: empty is no limit. */
export interface Terms {
  waves: string;
  manual: boolean;
  pauseMinutes: string;
  inFlight: string;
  perMinute: string;
  failedPercent: string;
  guardAction: "pause" | "abort";
  begins: string;
  ends: string;
  days: Weekday[];
}

export const NO_TERMS: Terms = {
  waves: "",
  manual: false,
  pauseMinutes: "",
  inFlight: "",
  perMinute: "",
  failedPercent: "",
  guardAction: "pause",
  begins: "",
  ends: "",
  days: [],
};

const DAYS: readonly [Weekday, string][] = [
  ["mon", "Monday"],
  ["tue", "Tuesday"],
  ["wed", "Wednesday"],
  ["thu", "Thursday"],
  ["fri", "Friday"],
  ["sat", "Saturday"],
  ["sun", "Sunday"],
];

function number(text: string): number | null {
  return text === "" ? null : Number(text);
}

/** As the API takes them.
 *
 * @throws Error for waves that are neither "5" nor "10%".
 */
export function termsOf(terms: Terms): Pick<Start, "waves" | "limits" | "guard" | "hours"> {
  const failed = number(terms.failedPercent);
  return {
    waves: terms.waves
      .split(/[\s,]+/)
      .filter((one) => one !== "")
      .map((one) => {
        const [, figure, percent] = /^(\d+)(%?)$/.exec(one) ?? [];
        if (figure === undefined) throw new Error(`Waves: ${one} is neither a number, as 5, nor a share, as 10%.`);
        const size = percent === "%" ? { percent: Number(figure) } : { count: Number(figure) };
        return { ...size, manual: terms.manual, pause_s: (number(terms.pauseMinutes) ?? 0) * 60 };
      }),
    limits: { in_flight: number(terms.inFlight), per_minute: number(terms.perMinute) },
    guard: failed === null ? null : { max_failed_percent: failed, action: terms.guardAction },
    hours:
      terms.begins === "" || terms.ends === "" ? null : { begins: terms.begins, ends: terms.ends, days: terms.days },
  };
}

/** In which waves, how fast, when, and when it stops by itself. */
export function TermsFields({ terms, onTerms }: { terms: Terms; onTerms: (terms: Terms) => void }) {
  const set = (change: Partial<Terms>): void => onTerms({ ...terms, ...change });
  return (
    <details>
      <summary>How it goes: waves, limits, guard, hours</summary>
      <div className="stack pad">
        <Field
          label="Waves"
          hint="How many at first, and then: 5, 10%, 50%. What is left over is a last wave. Empty: all at once."
          spellCheck={false}
          value={terms.waves}
          onChange={(event) => set({ waves: event.target.value })}
        />
        {terms.waves.trim() !== "" && (
          <div className="row wrap bottom">
            <Choice
              label="Between waves"
              value={terms.manual ? "manual" : ""}
              onChoose={(value) => set({ manual: value !== "" })}
            >
              <option value="">the next one begins by itself</option>
              <option value="manual">it waits for you</option>
            </Choice>
            {!terms.manual && (
              <Field
                label="after a pause, in minutes"
                type="number"
                min={0}
                value={terms.pauseMinutes}
                onChange={(event) => set({ pauseMinutes: event.target.value })}
              />
            )}
          </div>
        )}
        <div className="row wrap">
          <Field
            label="At most at a time"
            type="number"
            min={1}
            value={terms.inFlight}
            onChange={(event) => set({ inFlight: event.target.value })}
          />
          <Field
            label="At most a minute"
            type="number"
            min={1}
            value={terms.perMinute}
            onChange={(event) => set({ perMinute: event.target.value })}
          />
        </div>
        <div className="row wrap bottom">
          <Field
            label="Stop if more percent fail than"
            type="number"
            min={0}
            max={100}
            hint="Judged from the tenth ending on."
            value={terms.failedPercent}
            onChange={(event) => set({ failedPercent: event.target.value })}
          />
          {terms.failedPercent !== "" && (
            <Choice
              label="and then"
              value={terms.guardAction}
              onChoose={(value) => set({ guardAction: value === "abort" ? "abort" : "pause" })}
            >
              <option value="pause">pause</option>
              <option value="abort">abort</option>
            </Choice>
          )}
        </div>
        <div className="row wrap">
          <Field
            label="Only from"
            type="time"
            value={terms.begins}
            required={terms.ends !== ""}
            onChange={(event) => set({ begins: event.target.value })}
          />
          <Field
            label="to"
            type="time"
            value={terms.ends}
            required={terms.begins !== ""}
            onChange={(event) => set({ ends: event.target.value })}
          />
        </div>
        {terms.begins !== "" && (
          <fieldset className="row wrap">
            <legend>
              <strong>Days</strong> <span className="muted">none means every day; by the machine's own clock</span>
            </legend>
            {DAYS.map(([day, label]) => (
              <label key={day} className="row">
                <input
                  type="checkbox"
                  checked={terms.days.includes(day)}
                  onChange={(event) =>
                    set({ days: event.target.checked ? [...terms.days, day] : terms.days.filter((one) => one !== day) })
                  }
                />
                {label}
              </label>
            ))}
          </fieldset>
        )}
      </div>
    </details>
  );
}
