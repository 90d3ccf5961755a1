import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Link } from "wouter";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useAfterEvents } from "../app/events";
import { useTitle } from "../app/title";
import { Crumbs } from "../ui/Crumbs";
import { Actor, EventLine } from "../ui/EventLine";
import { Fault } from "../ui/Fault";
import { More } from "../ui/More";
import { type Followed, followedFrom } from "./followed";

type LogEvent = components["schemas"]["EventModel"];
type Page = components["schemas"]["PageOf_EventModel_"];

const PAGE = 200;
/** Deeper than this the tree goes on without being indented more: a telephone is narrow. */
const DEEPEST = 6;

/** What one event is to the one above it: the server says of an event what it came of, and this reads downwards. */
const WORDS: Record<string, string> = {
  asked: "asked for",
  follows: "then",
  queued_by: "queued",
  retry_of: "tried again",
  approved: "let go on",
  agent_retired: "ended, as its machine was retired,",
  rollout_aborted: "ended, as its rollout was aborted,",
  token: "let in",
};

/** The tree of one event: what led to it, from the request that began it, and what followed from it. */
export function Causes({ position }: { position: number }) {
  useTitle(`Event ${position}`);
  const causes = useQuery({
    queryKey: ["causes", position],
    queryFn: () => ask(api.GET("/api/v1/events/{position}/causes", { params: { path: { position } } })),
  });
  const items = causes.data?.items ?? [];
  const [asked] = items;
  const story = useStory(asked?.event);
  // The first of its story has all of it below.
  const tree = asked === undefined ? null : followedFrom(asked.event, story.items, items.length === 1);
  // What the server names from the event back is drawn from the beginning on.
  const levels = items.map((one, index) => ({ event: one.event, because: items[index + 1]?.because ?? null }));
  levels.reverse();
  return (
    <div className="page">
      <header>
        <Crumbs to="/activity" list="Activity">
          Why it happened, and what followed
        </Crumbs>
      </header>
      <Fault error={causes.error ?? story.pages.error} retry={() => causes.refetch()} />
      {causes.data?.hidden && (
        <p className="muted">The chain began beyond what you may see, or is longer than is told.</p>
      )}
      {causes.data?.begun_by && (
        <p>
          Begun by <Actor actor={causes.data.begun_by} />{" "}
          <Link href={`/activity?story=${causes.data.correlation_id}`}>All of this story</Link>
        </p>
      )}
      {tree !== null && (
        <ol className="tree" aria-label="Causes and effects">
          {drawn(levels, tree, 0)}
        </ol>
      )}
      {tree !== null && story.pages.isSuccess && tree.length === 0 && (
        <p className="muted">Nothing has followed from it so far.</p>
      )}
      <More of={story.pages}>Look for what followed later</More>
    </div>
  );
}

/** What is of the same story, and later. */
function useStory(event: LogEvent | undefined) {
  const client = useQueryClient();
  const key = ["story-after", event?.position];
  const pages = useInfiniteQuery({
    queryKey: key,
    enabled: event !== undefined,
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page) => page.next,
    queryFn: ({ pageParam }) => {
      const query = {
        correlation_id: event?.correlation_id ?? "",
        after: event?.position ?? 0,
        limit: PAGE,
        ...(pageParam === null ? {} : { cursor: pageParam }),
      };
      return ask(api.GET("/api/v1/events", { params: { query } }));
    },
  });
  useAfterEvents(
    (one) => one.correlation_id === event?.correlation_id,
    () => void client.invalidateQueries({ queryKey: key }),
  );
  return { pages, items: pages.data?.pages.flatMap((page) => page.items) ?? [] };
}

interface Level {
  event: LogEvent;
  because: string | null;
}

/** The chain down to the event that was asked about, one level each, and below it all that followed. */
function drawn([first, ...rest]: readonly Level[], followed: readonly Followed[], depth: number): ReactNode {
  if (first === undefined) return null;
  const here = rest.length === 0;
  return (
    <Node key={first.event.position} event={first.event} because={first.because} depth={depth} here={here}>
      {here ? followed.map((one) => below(one, depth + 1)) : drawn(rest, followed, depth + 1)}
    </Node>
  );
}

function below({ event, because, followed }: Followed, depth: number): ReactNode {
  return (
    <Node key={event.position} event={event} because={because} depth={depth} here={false}>
      {followed.map((one) => below(one, depth + 1))}
    </Node>
  );
}

interface NodeProps extends Level {
  depth: number;
  /** It is the one that was asked about. */
  here: boolean;
  children: ReactNode;
}

function Node({ event, because, depth, here, children }: NodeProps) {
  const some = Array.isArray(children) ? children.length > 0 : children !== null;
  return (
    <li>
      <div className="muted small because">
        {because !== null && `↳ ${WORDS[because] ?? because} · `}
        {here ? "this event" : <Link href={`/activity/${event.position}`}>{`event ${event.position}`}</Link>}
      </div>
      <ol className="story card" aria-current={here || undefined}>
        <EventLine event={event} whose />
      </ol>
      {some && <ol className={depth < DEEPEST ? "tree" : "tree flat"}>{children}</ol>}
    </li>
  );
}
