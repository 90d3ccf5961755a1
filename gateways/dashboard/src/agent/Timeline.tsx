import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../api/client";
import type { components, paths } from "../api/schema";
import { useAfterEvents } from "../app/events";
import { Button } from "../ui/Button";
import { EventLine } from "../ui/EventLine";
import { Fault } from "../ui/Fault";

type Page = components["schemas"]["PageOf_EventModel_"];

type EventType = NonNullable<NonNullable<paths["/api/v1/events"]["get"]["parameters"]["query"]>["type"]>[number];

const FAILURES: EventType[] = [
  "CommandFailed",
  "CommandTimedOut",
  "CommandInterrupted",
  "CommandRejected",
  "CommandExpired",
];
const ENDINGS: EventType[] = ["CommandSucceeded", ...FAILURES, "CommandCancelled"];
const COMMANDS: EventType[] = [
  "CommandQueued",
  "CommandDelivered",
  "CommandStarted",
  "CommandRequeued",
  "CommandPriorityChanged",
  "CommandCancelRequested",
  ...ENDINGS,
];
const CHANGES: EventType[] = [
  "AgentEnrolled",
  "AgentMoved",
  "AgentRenamed",
  "AgentTagged",
  "AgentSuspended",
  "AgentResumed",
  "AgentRetired",
  "AgentKeyRotated",
  "FieldsFilled",
  "AgentNoteWritten",
  "AgentNoteRemoved",
];
const FILTERS: readonly [string, string, EventType[]][] = [
  ["all", "Everything", []],
  ["commands", "Commands", COMMANDS],
  ["endings", "Results", ENDINGS],
  ["failures", "Failures", FAILURES],
  ["presence", "Online and offline", ["AgentConnected", "AgentDisconnected"]],
  ["changes", "Changes", CHANGES],
];

interface Props {
  agentId: string;
  /** It is told up to this position; null is now. */
  at: number | null;
  onOpen: (commandId: string) => void;
  /** Shows the machine as of a position. */
  onGo: (at: number) => void;
}

/** All that ever happened to the machine, newest first, in sentences; each with the event itself behind it. */
export function Timeline({ agentId, at, onOpen, onGo }: Props) {
  const client = useQueryClient();
  const [kind, setKind] = useState("all");
  const types = FILTERS.find(([name]) => name === kind)?.[2] ?? [];
  const key = ["timeline", agentId];
  const story = useInfiniteQuery({
    queryKey: [...key, kind, at],
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page) => page.next,
    queryFn: ({ pageParam }) => {
      const query = {
        agent_id: agentId,
        backwards: true,
        limit: 50,
        ...(at === null ? {} : { at }),
        ...(types.length > 0 ? { type: types } : {}),
        ...(pageParam === null ? {} : { cursor: pageParam }),
      };
      return ask(api.GET("/api/v1/events", { params: { query } }));
    },
  });
  const pages = story.data?.pages.length ?? 0;
  useAfterEvents(
    (event) => at === null && event.agent_id === agentId && pages <= 3,
    () => void client.invalidateQueries({ queryKey: key }),
    500,
  );
  const events = story.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <div className="stack">
      <div className="row wrap" role="group" aria-label="Filter the timeline">
        {FILTERS.map(([name, label]) => (
          <button key={name} type="button" className="chip" aria-pressed={kind === name} onClick={() => setKind(name)}>
            {label}
          </button>
        ))}
      </div>
      <Fault error={story.error} retry={() => story.refetch()} />
      {story.isSuccess && events.length === 0 ? (
        <div className="empty">
          <h2>Nothing of that kind has happened</h2>
        </div>
      ) : (
        <ol className="story card">
          {events.map((event) => (
            <EventLine
              key={event.position}
              event={event}
              onOpen={onOpen}
              more={
                <p>
                  <Button look="tiny" onClick={() => onGo(event.position)}>
                    The machine as of here
                  </Button>
                </p>
              }
            />
          ))}
        </ol>
      )}
      {story.hasNextPage && (
        <Button onClick={() => story.fetchNextPage()} busy={story.isFetchingNextPage}>
          Earlier
        </Button>
      )}
    </div>
  );
}
