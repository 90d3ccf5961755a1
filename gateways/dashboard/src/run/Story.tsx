import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { api, ask } from "../api/client";
import { useMay } from "../api/session";
import { useAfterEvents } from "../app/events";
import { useList } from "../app/list";
import { EventLine } from "../ui/EventLine";
import { Fault } from "../ui/Fault";
import { More } from "../ui/More";

/** What happened to a command, and what it came of; asked for when it is opened. */
export function Story({ commandId }: { commandId: string }) {
  const may = useMay();
  const [open, setOpen] = useState(false);
  if (!may("events.see")) return null;
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Its story, and why it happened</summary>
      {open && (
        <div className="stack pad">
          <Events commandId={commandId} />
          <Why commandId={commandId} />
        </div>
      )}
    </details>
  );
}

function Events({ commandId }: { commandId: string }) {
  const { pages, items, again } = useList(["command", commandId, "events"], [], (query) =>
    ask(api.GET("/api/v1/commands/{command_id}/events", { params: { path: { command_id: commandId }, query } })),
  );
  useAfterEvents(
    (event) => event.stream_id === commandId,
    () => void again(),
    300,
  );
  return (
    <>
      <Fault error={pages.error} retry={() => pages.refetch()} />
      <ol className="story" aria-label="What happened to it">
        {items.map((event) => (
          <EventLine
            key={event.position}
            event={event}
            more={<Link href={`/activity/${event.position}`}>What led to it, and what followed</Link>}
          />
        ))}
      </ol>
      <More of={pages}>Later</More>
    </>
  );
}

function Why({ commandId }: { commandId: string }) {
  const causes = useQuery({
    queryKey: ["command", commandId, "causes"],
    queryFn: () =>
      ask(api.GET("/api/v1/commands/{command_id}/causes", { params: { path: { command_id: commandId } } })),
  });
  const items = causes.data?.items ?? [];
  const [last] = items;
  const first = items.at(-1);
  return (
    <>
      <Fault error={causes.error} />
      {last !== undefined && first !== undefined && (
        <p>
          It goes back to: {first.event.text}{" "}
          <Link href={`/activity/${last.event.position}`}>
            {items.length === 1 ? "The event" : `All ${items.length} steps`}
          </Link>
        </p>
      )}
    </>
  );
}
