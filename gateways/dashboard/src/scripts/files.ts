import type { Content } from "./ContentForm";

/** A script as a file holds it: all that another Fleetlog needs to have the same one. */
export interface Kept {
  name: string;
  description: string;
  folder: string;
  content: Content;
}

const FORMAT = "fleetlog-script/1";
const SHELLS: Record<string, Content["shell"]> = {
  sh: "sh",
  bash: "bash",
  py: "python",
  ps1: "powershell",
  cmd: "cmd",
  bat: "cmd",
};
const ENDINGS: Record<Content["shell"], string> = { sh: "sh", bash: "sh", python: "py", powershell: "ps1", cmd: "cmd" };
const MOST_BYTES = 1_000_000;

/** Give the browser a file to keep. */
function save(name: string, text: string, type: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name.replaceAll(/[^\p{L}\p{N}._ -]/gu, "_");
  link.click();
  URL.revokeObjectURL(url);
}

/** The script with its parameters, as JSON. */
export function saveWhole(kept: Kept): void {
  save(`${kept.name}.json`, `${JSON.stringify({ format: FORMAT, ...kept }, null, 2)}\n`, "application/json");
}

/** Its code alone. */
export function saveCode(kept: Kept): void {
  save(`${kept.name}.${ENDINGS[kept.content.shell]}`, kept.content.body, "text/plain");
}

/** What a file holds: a script that was exported, or code whose shell its first line or its ending tells.
 *
 * @throws Error where it is neither.
 */
export async function readScript(file: File): Promise<Kept> {
  if (file.size > MOST_BYTES) throw new Error(`${file.name} is too large: a script has at most 512 KiB of code.`);
  const text = await file.text();
  const [, name = file.name, ending = ""] = /^(.*)\.([^.]+)$/.exec(file.name) ?? [];
  if (ending.toLowerCase() === "json") return parsed(file.name, text);
  const shell = /^#!.*\b(bash|python)/.exec(text)?.[1] ?? SHELLS[ending.toLowerCase()];
  if (shell === undefined) {
    throw new Error(`${file.name} is no script: it ends in .sh, .bash, .py, .ps1, .cmd, .bat or .json.`);
  }
  return { name, description: "", folder: "", content: { shell: shell as Content["shell"], body: text } };
}

function parsed(name: string, text: string): Kept {
  let held: unknown;
  try {
    held = JSON.parse(text);
  } catch (error) {
    throw new Error(`${name} is no JSON: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
  if (typeof held !== "object" || held === null || !("format" in held) || held.format !== FORMAT) {
    throw new Error(`${name} is no exported script: its format is not ${FORMAT}.`);
  }
  const { name: called, description, folder, content } = held as Partial<Kept>;
  if (typeof called !== "string" || typeof content?.body !== "string") {
    throw new Error(`${name} has no name or no content.body.`);
  }
  // Whatever else is wrong the server says, by its place, when it is added.
  return { name: called, description: description ?? "", folder: folder ?? "", content };
}
