import type { components } from "../api/schema";
import { type Shape, Status, type Tone } from "../ui/Status";

export type Check = components["schemas"]["CheckModel"];
export type State = components["schemas"]["CheckState"];

const STATES: Record<State, [Tone, Shape, string]> = {
  passing: ["ok", "tick", "passing"],
  info: ["busy", "half", "info"],
  warning: ["warn", "bars", "warning"],
  unknown: ["off", "dash", "cannot be measured"],
  failing: ["bad", "cross", "failing"],
  ended: ["off", "ring", "not measured any more"],
};

/** What a check finds; null is a check that was not measured yet. */
export function CheckStatus({ state }: { state: State | null }) {
  const [tone, shape, word] = state === null ? (["off", "clock", "not measured yet"] as const) : STATES[state];
  return (
    <Status tone={tone} shape={shape}>
      {word}
    </Status>
  );
}

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function valueText(value: number | null, unit: string): string {
  if (value === null) return "";
  return unit === "exit code" ? `exit code ${value}` : `${NUMBER.format(value)} ${unit}`.trim();
}

export const KINDS: Record<Check["what"]["kind"], string> = {
  disk: "Free space of a disk",
  cpu: "Processor in use",
  memory: "Memory in use",
  service: "A service runs",
  reach: "A host can be reached",
  script: "A script of the library",
  shell: "A line in a shell",
};

/** What a check measures, in few words. */
export function whatText({ what }: Pick<Check, "what">): string {
  switch (what.kind) {
    case "disk":
      return `disk ${what.path || "that is fullest"}: ${limits("<", what)} free`;
    case "cpu":
    case "memory":
      return `${what.kind === "cpu" ? "processor" : "memory"}: ${limits(">", what)} in use`;
    case "service":
      return `service ${what.service}`;
    case "reach":
      return what.port === null || what.port === undefined
        ? `ping of ${what.host}`
        : `port ${what.port} of ${what.host}`;
    case "script":
      return `revision ${what.revision} of a script`;
    case "shell":
      return `${what.shell}: ${what.line}`;
  }
}

function limits(sign: string, { warning, error }: { warning?: number | null; error?: number | null }): string {
  const said = [];
  if (warning != null) said.push(`warns ${sign} ${warning} %`);
  if (error != null) said.push(`fails ${sign} ${error} %`);
  return said.join(", ");
}
