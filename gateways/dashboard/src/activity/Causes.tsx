import { useQuery } from "@tanstack/react-query";
import { Fragment } from "react";
import { Link } from "wouter";
import { api, ask } from "../api/client";
import { useTitle } from "../app/title";
import { Crumbs } from "../ui/Crumbs";
import { Actor, EventLine } from "../ui/EventLine";
import { Fault } from "../ui/Fault";

const WORDS: Record<string, string> = {
  asked: "was asked for by",
  follows: "follows from",
  queued_by: "was queued by",
  retry_of: "is another try of",
  approved: "was approved in",
  agent_retired: "ended as its machine was retired",
  token: "was let in by",
};

/** Why an event happened: from it back to the request that began it. */
export function Causes({ position }: { position: number }) {
  useTitle(`Event ${position}`);
  const causes = useQuery({
    queryKey: ["causes", position],
    queryFn: () => ask(api.GET("/api/v1/events/{position}/causes", { params: { path: { position } } })),
  });
  const items = causes.data?.items ?? [];
  return (
    <div className="page">
      <header>
        <Crumbs to="/activity" list="Activity">
          Why it happened
        </Crumbs>
      </header>
      <Fault error={causes.error} retry={() => causes.refetch()} />
      <ol className="causes">
        {items.map(({ event, because }) => (
          <Fragment key={event.position}>
            {because !== null && <li className="because muted small">↑ {WORDS[because] ?? because}</li>}
            <li className="card">
              <ol className="story">
                <EventLine event={event} whose />
              </ol>
            </li>
          </Fragment>
        ))}
        {causes.data?.begun_by && (
          <>
            <li className="because muted small">↑ was begun by</li>
            <li className="card">
              <p className="pad">
                <Actor actor={causes.data.begun_by} />{" "}
                <Link href={`/activity?story=${causes.data.correlation_id}`}>All of this story</Link>
              </p>
            </li>
          </>
        )}
      </ol>
      {causes.data?.hidden && (
        <p className="muted">The chain goes on beyond what you may see, or is longer than is told.</p>
      )}
    </div>
  );
}
