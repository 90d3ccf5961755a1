import type { components } from "../api/schema";
import { figure } from "../ui/figure";
import { Status } from "../ui/Status";

export type Counts = components["schemas"]["CountsModel"];
type State = keyof Counts;

/** The states together, as they are shown: from what went well to what has not begun. */
const GROUPS = [
  ["succeeded", "ok", "tick", ["succeeded"]],
  ["failed", "bad", "cross", ["failed", "timed_out", "interrupted", "rejected"]],
  ["expired", "warn", "clock", ["expired"]],
  ["cancelled or skipped", "off", "dash", ["cancelled", "skipped"]],
  ["running", "busy", "arrow", ["running", "delivered"]],
  ["queued", "busy", "clock", ["queued"]],
  ["waiting", "off", "ring", ["waiting"]],
] as const satisfies readonly (readonly [string, string, string, readonly State[]])[];

function sum(counts: Counts, states: readonly State[]): number {
  return states.reduce((total, state) => total + counts[state], 0);
}

/** How many of all there are in each state, as a bar; each state has a pattern of its own besides its colour. */
export function CountsBar({ counts }: { counts: Counts }) {
  const total = sum(counts, Object.keys(counts) as State[]);
  const said = GROUPS.map(([label, , , states]) => [label, sum(counts, states)] as const).filter(
    ([, count]) => count > 0,
  );
  return (
    <div
      className="bar"
      role="img"
      aria-label={said.map(([label, count]) => `${count} ${label}`).join(", ") || "nobody yet"}
    >
      {GROUPS.map(([label, tone, , states]) => {
        const count = sum(counts, states);
        return count > 0 ? (
          <span
            key={label}
            className={`bar-part ${tone}`}
            data-state={label}
            title={`${figure(count)} ${label}`}
            style={{ flexGrow: count / Math.max(total, 1) }}
          />
        ) : null;
      })}
    </div>
  );
}

/** The same in shapes and figures, where there is no room for words. */
export function CountsShort({ counts }: { counts: Counts }) {
  return (
    <div className="row wrap counts small">
      {GROUPS.map(([label, tone, shape, states]) => {
        const count = sum(counts, states);
        return count > 0 ? (
          <Status key={label} tone={tone} shape={shape} title={label}>
            {figure(count)}
            <span className="hidden-text"> {label}</span>
          </Status>
        ) : null;
      })}
    </div>
  );
}

/** The same in words and figures. */
export function CountsLine({ counts }: { counts: Counts }) {
  return (
    <div className="row wrap counts">
      {GROUPS.map(([label, tone, shape, states]) => {
        const count = sum(counts, states);
        return count > 0 ? (
          <Status key={label} tone={tone} shape={shape}>
            <strong>{figure(count)}</strong> {label}
          </Status>
        ) : null;
      })}
    </div>
  );
}

const STATES: Record<string, ["ok" | "warn" | "bad" | "busy" | "off", "tick" | "bars" | "arrow" | "cross"]> = {
  running: ["busy", "arrow"],
  paused: ["warn", "bars"],
  completed: ["ok", "tick"],
  aborted: ["bad", "cross"],
};

export function RolloutStatus({ state }: { state: string }) {
  const [tone, shape] = STATES[state] ?? ["off", "bars"];
  return (
    <Status tone={tone} shape={shape}>
      {state}
    </Status>
  );
}
