import type { components } from "../api/schema";
import { Choice } from "../ui/Choice";
import { Field } from "../ui/Field";

type Start = components["schemas"]["StartRollout"];
const MINUTE_S = 60;
const HOUR_S = 3_600;
type Weekday = NonNullable<NonNullable<Start["hours"]>["days"]>[number];

/** How a rollout goes, as it is typed: empty is no limit. */
export interface Terms {
  name: string;
  joinsHours: string;
  waves: string;
  finishedPercent: string;
  manual: boolean;
  pauseMinutes: string;
  inFlight: string;
  perMinute: string;
  failedPercent: string;
  timedOutPercent: string;
  unansweredPercent: string;
  answerMinutes: string;
  minEnded: string;
  guardAction: "pause" | "abort";
  begins: string;
  ends: string;
  days: Weekday[];
}

export const NO_TERMS: Terms = {
  name: "",
  joinsHours: "",
  waves: "",
  finishedPercent: "",
  manual: false,
  pauseMinutes: "",
  inFlight: "",
  perMinute: "",
  failedPercent: "",
  timedOutPercent: "",
  unansweredPercent: "",
  answerMinutes: "",
  minEnded: "",
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

function seconds(text: string, unit: number): number | null {
  return text === "" ? null : Math.round(Number(text) * unit);
}

/** Whether anything stops it by itself. */
function guarded(terms: Terms): boolean {
  return terms.failedPercent !== "" || terms.timedOutPercent !== "" || terms.unansweredPercent !== "";
}

function guardOf(terms: Terms): Start["guard"] {
  if (!guarded(terms)) return null;
  return {
    max_failed_percent: number(terms.failedPercent),
    max_timed_out_percent: number(terms.timedOutPercent),
    max_unanswered_percent: number(terms.unansweredPercent),
    answer_within_s: terms.unansweredPercent === "" ? null : seconds(terms.answerMinutes, MINUTE_S),
    ...(terms.minEnded === "" ? {} : { min_ended: Number(terms.minEnded) }),
    action: terms.guardAction,
  };
}

/** As the API takes them.
 *
 * @throws Error for waves that are neither "5" nor "10%".
 */
export function termsOf(terms: Terms): Pick<Start, "waves" | "limits" | "guard" | "hours" | "joins_within_s"> {
  return {
    joins_within_s: seconds(terms.joinsHours, HOUR_S),
    waves: terms.waves
      .split(/[\s,]+/)
      .filter((one) => one !== "")
      .map((one) => {
        const [, figure, percent] = /^(\d+)(%?)$/.exec(one) ?? [];
        if (figure === undefined) throw new Error(`Waves: ${one} is neither a number, as 5, nor a share, as 10%.`);
        const size = percent === "%" ? { percent: Number(figure) } : { count: Number(figure) };
        return {
          ...size,
          manual: terms.manual,
          pause_s: seconds(terms.pauseMinutes, MINUTE_S) ?? 0,
          finished_percent: number(terms.finishedPercent) ?? 100,
        };
      }),
    limits: { in_flight: number(terms.inFlight), per_minute: number(terms.perMinute) },
    guard: guardOf(terms),
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
            hint="Judged from the tenth ending on, or as Options has it."
            value={terms.failedPercent}
            onChange={(event) => set({ failedPercent: event.target.value })}
          />
          {guarded(terms) && (
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
        <TermsOptions terms={terms} set={set} />
      </div>
    </details>
  );
}

interface OptionsProps {
  terms: Terms;
  set: (change: Partial<Terms>) => void;
}

/** What is seldom other than usual. */
function TermsOptions({ terms, set }: OptionsProps) {
  const share = { type: "number", min: 0, max: 100 };
  return (
    <details>
      <summary>Options: name, who joins, when a wave is done, what else stops it</summary>
      <div className="stack pad">
        <div className="row wrap top">
          <Field
            label="Called"
            hint="Empty: as what it runs."
            maxLength={200}
            value={terms.name}
            onChange={(event) => set({ name: event.target.value })}
          />
          <Field
            label="Open for others, in hours"
            hint="Who enrolls or comes to match by then joins. Empty: nobody."
            type="number"
            min={0.01}
            step="any"
            value={terms.joinsHours}
            onChange={(event) => set({ joinsHours: event.target.value })}
          />
        </div>
        {terms.waves.trim() !== "" && (
          <Field
            label="A wave is done when so many percent have ended"
            hint="Empty: all of them, so that one machine that is off holds up the next wave."
            {...share}
            value={terms.finishedPercent}
            onChange={(event) => set({ finishedPercent: event.target.value })}
          />
        )}
        <div className="row wrap top">
          <Field
            label="Stop if more percent time out than"
            {...share}
            value={terms.timedOutPercent}
            onChange={(event) => set({ timedOutPercent: event.target.value })}
          />
          <Field
            label="Stop if more percent do not answer than"
            hint="Who is simply away is waited for."
            {...share}
            value={terms.unansweredPercent}
            onChange={(event) => set({ unansweredPercent: event.target.value })}
          />
          {terms.unansweredPercent !== "" && (
            <Field
              label="within minutes"
              type="number"
              min={0.1}
              step="any"
              required
              value={terms.answerMinutes}
              onChange={(event) => set({ answerMinutes: event.target.value })}
            />
          )}
        </div>
        {guarded(terms) && (
          <Field
            label="Judge once so many have ended"
            hint="Empty: ten."
            type="number"
            min={1}
            value={terms.minEnded}
            onChange={(event) => set({ minEnded: event.target.value })}
          />
        )}
      </div>
    </details>
  );
}
