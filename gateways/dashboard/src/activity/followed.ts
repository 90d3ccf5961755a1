import type { components } from "../api/schema";

type LogEvent = components["schemas"]["EventModel"];

/** An event, how it came of the one above it, and what came of it. */
export interface Followed {
  event: LogEvent;
  because: "follows" | "queued_by" | "asked";
  followed: Followed[];
}

/** What followed from an event, as a tree.
 *
 * @param root the event.
 * @param later what is of its story and later, by position.
 * @param begins it is the first of its story, so that what names no other cause was asked for with it.
 */
export function followedFrom(root: LogEvent, later: readonly LogEvent[], begins: boolean): Followed[] {
  const top: Followed = { event: root, because: "asked", followed: [] };
  // The last known of each thing: what comes next of it, or names it as its cause, came of that.
  const last = new Map<string, Followed>([[root.stream_id, top]]);
  for (const event of later) {
    const same = last.get(event.stream_id);
    const cause = event.causation_id === null ? undefined : last.get(event.causation_id);
    const above = same ?? cause ?? (begins ? top : undefined);
    if (above === undefined) continue;
    const because = same !== undefined ? "follows" : cause !== undefined ? "queued_by" : "asked";
    const node: Followed = { event, because, followed: [] };
    above.followed.push(node);
    last.set(event.stream_id, node);
  }
  return top.followed;
}
