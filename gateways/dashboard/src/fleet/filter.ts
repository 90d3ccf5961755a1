import type { paths } from "../api/schema";

export type AgentQuery = NonNullable<paths["/api/v1/agents"]["get"]["parameters"]["query"]>;
export type Filter = Omit<AgentQuery, "limit" | "cursor" | "sort" | "at" | "wait_position">;

const PLATFORMS = ["linux", "windows", "macos"] as const;
const STATUS: Record<string, Filter> = {
  online: { online: true, state: "active" },
  offline: { online: false, state: "active" },
  active: { state: "active" },
  suspended: { state: "suspended" },
  retired: { state: "retired" },
};
const UNITS: Record<string, number> = { s: 1, m: 60, h: 3_600, d: 86_400, w: 604_800 };
const MINUTE_MS = 60_000;

/** What the box understands, for its help. */
export const KEYS: readonly [string, string][] = [
  ["web-07", "part of a name or hostname"],
  ["status:offline", "online, offline, active, suspended or retired"],
  ["os:linux", "linux, windows, macos, or part of a system's name"],
  ["tag:web", "has this tag; more than one: has them all"],
  ["pending:>0", "so many commands wait for it; pending:5 means 5 or more"],
  ["updates:>0", "so many packages could be updated; security:>0 for those that are for security"],
  ["software:openssl", "a package or program of that name is installed"],
  ["failing:>0", "so many checks fail on it; warning:>0 for those that warn"],
  ["check:Disk", "the check of that name finds something on it"],
  ["reboot:needed", "it waits to be restarted; reboot:none for those that do not"],
  ["seen:<1h", "heard of within an hour; seen:>7d for not within a week (s, m, h, d, w)"],
  ["version:0.1.0", "the agent's version"],
  ["is:duplicate", "two machines with one identity"],
];

export interface Parsed {
  filter: Filter;
  /** What was not understood, in words; nothing is narrowed by it. */
  wrong: string[];
}

/** Read what was typed. Agents that are retired are left out unless they are asked for.
 *
 * @param text as typed: words, and `key:value`; quotes keep a value with spaces together.
 * @param now in milliseconds; times are rounded to the minute, so that the same text asks the same for a while.
 */
export function parse(text: string, now = Date.now()): Parsed {
  const filter: Filter = {};
  const wrong: string[] = [];
  const words: string[] = [];
  for (const token of text.match(/\w+:"[^"]*"?|"[^"]*"?|\S+/g) ?? []) {
    const found = /^([a-z]+):(.*)$/i.exec(token);
    if (found === null) {
      words.push(unquoted(token));
      continue;
    }
    const problem = read(filter, (found[1] ?? "").toLowerCase(), unquoted(found[2] ?? ""), now);
    if (problem !== null) wrong.push(problem);
  }
  if (words.length > 0) filter.q = words.join(" ");
  if (filter.state === undefined) filter.retired = false;
  return { filter, wrong };
}

function read(filter: Filter, key: string, value: string, now: number): string | null {
  if (value === "" || value === ">" || value === "<") return null; // still being typed
  const low = value.toLowerCase();
  switch (key) {
    case "status": {
      const status = STATUS[low];
      if (status === undefined) return `status is one of ${Object.keys(STATUS).join(", ")}, and not ${value}.`;
      Object.assign(filter, status);
      return null;
    }
    case "os":
    case "platform": {
      const platform = PLATFORMS.find((one) => one === low);
      if (platform !== undefined) filter.platform = platform;
      else if (key === "platform") return `platform is one of ${PLATFORMS.join(", ")}, and not ${value}.`;
      else filter.os = value;
      return null;
    }
    case "tag":
      filter.tag = [...(filter.tag ?? []), value];
      return null;
    case "version":
      filter.agent_version = value;
      return null;
    case "is":
      if (low !== "duplicate") return `is:duplicate is all that there is, and not is:${value}.`;
      filter.duplicate = true;
      return null;
    case "pending":
    case "updates":
    case "failing":
    case "warning":
    case "security": {
      const found = /^(>=?)?(\d{1,6})$/.exec(value);
      if (found === null) return `${key} takes a number, as ${key}:>0, and not ${value}.`;
      const least = Number(found[2]) + (found[1] === ">" ? 1 : 0);
      if (least > 0) filter[key === "security" ? "security_updates" : key] = least;
      return null;
    }
    case "software":
      filter.software = value;
      return null;
    case "check":
      filter.check = value;
      return null;
    case "reboot":
      if (low !== "needed" && low !== "none") return `reboot is needed or none, and not ${value}.`;
      filter.reboot_needed = low === "needed";
      return null;
    case "seen": {
      const found = /^([<>])(\d{1,6})([smhdw])$/.exec(low);
      if (found === null) return `seen takes a time, as seen:<1h or seen:>7d, and not ${value}.`;
      const ago = Number(found[2]) * (UNITS[found[3] ?? "s"] ?? 1) * 1000;
      const at = new Date(Math.floor((now - ago) / MINUTE_MS) * MINUTE_MS).toISOString();
      if (found[1] === "<") filter.seen_after = at;
      else filter.seen_before = at;
      return null;
    }
    default:
      return `There is no filter called ${key}.`;
  }
}

function unquoted(text: string): string {
  return text.replace(/^"|"$/g, "");
}

/** The text with one `key:value` in place of any other of that key; without it where it is there already. */
export function toggled(text: string, key: string, value: string): string {
  const token = `${key}:${value}`;
  const others = text.split(/\s+/).filter((one) => one !== "" && !one.toLowerCase().startsWith(`${key}:`));
  return (has(text, token) ? others : [...others, token]).join(" ");
}

export function has(text: string, token: string): boolean {
  return text.split(/\s+/).includes(token);
}
