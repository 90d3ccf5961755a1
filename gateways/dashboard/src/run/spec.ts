import type { components } from "../api/schema";

export type Spec = components["schemas"]["CommandModel"]["spec"];

/** What is run, in a line.
 *
 * @param script what the script is called, where that is known.
 */
export function specText(spec: Spec, script?: string): string {
  switch (spec.kind) {
    case "run_shell":
      return `${spec.shell}> ${spec.line}`;
    case "run_script":
      return `${script ?? `script ${spec.script_id}`}, revision ${spec.revision ?? "newest"}${spec.args ? ` ${spec.args.join(" ")}` : ""}`;
    case "ping":
      return "ping";
    case "collect_facts":
      return "collect facts";
    case "rotate_key":
      return "make another key";
    case "install_updates":
      return `install ${spec.security_only ? "security updates" : "updates"}${spec.names?.length ? `: ${spec.names.join(", ")}` : ""}`;
    case "reboot":
      return "restart the machine";
  }
}
