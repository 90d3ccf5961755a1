import type { components } from "../api/schema";
import { Field } from "../ui/Field";

type Policy = NonNullable<components["schemas"]["QueueCommand"]["retry"]>;
type Outcome = NonNullable<Policy["on"]>[number];

/** When it is tried once more, as it is typed; empty is once and no more. */
export interface Retry {
  attempts: string;
  on: readonly Outcome[];
  backoffS: string;
}

export const ONCE: Retry = { attempts: "", on: ["failed", "timed_out"], backoffS: "" };

const OUTCOMES: readonly [Outcome, string][] = [
  ["failed", "it failed"],
  ["timed_out", "it timed out"],
  ["interrupted", "it was interrupted"],
];

/** As the API takes it. */
export function retryOf({ attempts, on, backoffS }: Retry): { retry?: Policy } {
  if (Number(attempts) <= 1) return {};
  const pause = backoffS === "" ? {} : { backoff_s: Number(backoffS) };
  return { retry: { max_attempts: Number(attempts), on: [...on], ...pause } };
}

/** How often a machine tries, after what, and how long it rests. */
export function RetryFields({ retry, onRetry }: { retry: Retry; onRetry: (retry: Retry) => void }) {
  return (
    <>
      <div className="row wrap top">
        <Field
          label="Tries at most"
          hint="Empty: one."
          type="number"
          min={1}
          max={10}
          value={retry.attempts}
          onChange={(event) => onRetry({ ...retry, attempts: event.target.value })}
        />
        {Number(retry.attempts) > 1 && (
          <Field
            label="Seconds between tries"
            hint="Empty: 60."
            type="number"
            min={0}
            value={retry.backoffS}
            onChange={(event) => onRetry({ ...retry, backoffS: event.target.value })}
          />
        )}
      </div>
      {Number(retry.attempts) > 1 && (
        <fieldset className="row wrap">
          <legend>Try again if</legend>
          {OUTCOMES.map(([outcome, label]) => (
            <label key={outcome} className="row">
              <input
                type="checkbox"
                checked={retry.on.includes(outcome)}
                onChange={(event) => {
                  const others = retry.on.filter((one) => one !== outcome);
                  onRetry({ ...retry, on: event.target.checked ? [...others, outcome] : others });
                }}
              />
              {label}
            </label>
          ))}
        </fieldset>
      )}
    </>
  );
}
