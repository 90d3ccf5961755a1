import type { Agent } from "./agents";
import type { Filter } from "./filter";

/** Machines that something is done to: named one by one, or all that match when it is done, but for some. */
export type Selection =
  | { ids: ReadonlySet<string> }
  | { matching: Filter; except: ReadonlySet<string> /** As many as matched when they were chosen. */; total: number };

export const NONE: Selection = { ids: new Set() };

export function count(selection: Selection): number {
  return "ids" in selection ? selection.ids.size : Math.max(0, selection.total - selection.except.size);
}

export function holds(selection: Selection, id: string): boolean {
  return "ids" in selection ? selection.ids.has(id) : !selection.except.has(id);
}

/** The same with one machine more, or without it. */
export function toggled(selection: Selection, id: string): Selection {
  const ids = new Set("ids" in selection ? selection.ids : selection.except);
  if (!ids.delete(id)) ids.add(id);
  return "ids" in selection ? { ids } : { ...selection, except: ids };
}

/** The same with all of these. */
export function joined(selection: Selection, agents: readonly Agent[]): Selection {
  const ids = agents.map((one) => one.id);
  if ("ids" in selection) return { ids: new Set([...selection.ids, ...ids]) };
  return { ...selection, except: new Set([...selection.except].filter((id) => !ids.includes(id))) };
}

/** Whether it is of these alone that the list shows by another filter. */
export function isOf(selection: Selection, filter: Filter): boolean {
  return "ids" in selection || JSON.stringify(selection.matching) === JSON.stringify(filter);
}

/** The only machine in it, where it names one. */
export function only(selection: Selection): string | undefined {
  return "ids" in selection && selection.ids.size === 1 ? [...selection.ids][0] : undefined;
}
