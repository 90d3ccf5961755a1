import type { components } from "../api/schema";
import { Choice } from "../ui/Choice";
import { Field } from "../ui/Field";
import { instant, Moment } from "../ui/Moment";

type Queue = components["schemas"]["QueueCommand"];
type Start = components["schemas"]["StartRollout"];

const HOUR_S = 3_600;
const USUAL = 5;
const PRIORITIES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const WORDS: Record<number, string> = { 0: " first", 5: " usual", 9: " last" };

/** When a machine gets a command, and in which order; empty is the server's default. */
export interface When {
  notBefore: string;
  expiresHours: string;
  priority: number;
  lane: string;
}

export const AT_ONCE: When = { notBefore: "", expiresHours: "", priority: USUAL, lane: "" };

function common({ notBefore, priority, lane }: When) {
  return { not_before: instant(notBefore), priority, ...(lane.trim() === "" ? {} : { lane: lane.trim() }) };
}

/** As a single command takes it: it expires at a moment. */
export function ofCommand(
  when: When,
  now = Date.now(),
): Pick<Queue, "not_before" | "expires_at" | "priority" | "lane"> {
  const from = when.notBefore === "" ? now : Math.max(now, Date.parse(instant(when.notBefore) ?? ""));
  const expires = new Date(from + Number(when.expiresHours) * HOUR_S * 1_000).toISOString();
  return { ...common(when), expires_at: when.expiresHours === "" ? null : expires };
}

/** As a rollout takes it: each of its commands expires so long after it was queued. */
export function ofRollout(when: When): Pick<Start, "not_before" | "expires_in_s" | "priority" | "lane"> {
  const seconds = Math.round(Number(when.expiresHours) * HOUR_S);
  return { ...common(when), expires_in_s: when.expiresHours === "" ? null : seconds };
}

export function PriorityOptions() {
  return PRIORITIES.map((priority) => (
    <option key={priority} value={priority}>
      {priority}
      {WORDS[priority] ?? ""}
    </option>
  ));
}

/** Not before, expiry, priority and lane. */
export function WhenFields({ when, onWhen }: { when: When; onWhen: (when: When) => void }) {
  const set = (change: Partial<When>): void => onWhen({ ...when, ...change });
  return (
    <details>
      <summary>When: not before, expiry, priority, lane</summary>
      <div className="stack pad">
        <div className="row wrap top">
          <Moment
            label="Not before"
            hint="By your clock. Empty: at once."
            value={when.notBefore}
            onValue={(notBefore) => set({ notBefore })}
          />
          <Field
            label="Expires after hours"
            hint="Whoever has not got it by then never does. Empty: as the server has it."
            type="number"
            min={0.01}
            step="any"
            value={when.expiresHours}
            onChange={(event) => set({ expiresHours: event.target.value })}
          />
        </div>
        <div className="row wrap top">
          <Choice
            label="Priority"
            value={String(when.priority)}
            onChoose={(value) => set({ priority: Number(value) })}
            hint="Of what waits in its lane."
          >
            <PriorityOptions />
          </Choice>
          <Field
            label="Lane"
            hint="One at a time in each lane; lanes run side by side. Empty: default."
            pattern="[A-Za-z0-9_\-]{1,40}"
            spellCheck={false}
            value={when.lane}
            onChange={(event) => set({ lane: event.target.value })}
          />
        </div>
      </div>
    </details>
  );
}
