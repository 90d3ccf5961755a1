import type { components } from "../api/schema";
import { Choice } from "../ui/Choice";
import { Field } from "../ui/Field";

export type Shell = components["schemas"]["Shell"];

const SHELLS: readonly Shell[] = ["sh", "bash", "python", "powershell", "cmd"];

export function ShellChoice({ shell, onShell }: { shell: Shell; onShell: (shell: Shell) => void }) {
  return (
    <Choice label="Shell" value={shell} onChoose={(value) => onShell(value as Shell)}>
      {SHELLS.map((one) => (
        <option key={one}>{one}</option>
      ))}
    </Choice>
  );
}

export function TimeLimit({ value, onValue }: { value: string | number; onValue: (value: string) => void }) {
  return (
    <Field
      label="Time limit in seconds"
      type="number"
      min={1}
      value={value}
      onChange={(event) => onValue(event.target.value)}
    />
  );
}

export function RunAs({ value, onValue }: { value: string; onValue: (value: string) => void }) {
  return (
    <Field
      label="Run as"
      hint="An account of the machine; empty means the agent's own."
      value={value}
      onChange={(event) => onValue(event.target.value)}
    />
  );
}

/** `NAME=value` lines, as the API takes them.
 *
 * @throws Error for a line that is none.
 */
export function variables(text: string): Record<string, string> {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return Object.fromEntries(
    lines.map((line) => {
      const [, name, value] = /^\s*([^=\s]+)=(.*)$/.exec(line) ?? [];
      if (name === undefined || value === undefined) throw new Error(`Environment: ${line} is no NAME=value.`);
      return [name, value];
    }),
  );
}

/** The same as lines. */
export function variableLines(env: Record<string, string>): string {
  return Object.entries(env)
    .map(([name, value]) => `${name}=${value}`)
    .join("\n");
}
