import { useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Link, useLocation, useParams, useSearch } from "wouter";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import type { LogEvent } from "../api/stream";
import { useEvents } from "../app/events";
import { NotFound } from "../app/NotFound";
import { useTitle } from "../app/title";
import { Button } from "../ui/Button";
import { Actor, EventLine } from "../ui/EventLine";
import { Fault } from "../ui/Fault";
import { instant } from "../ui/Moment";
import { More } from "../ui/More";
import { Causes } from "./Causes";
import { Filters, type Narrowed } from "./Filters";
import { type EventQuery, KINDS } from "./kinds";
import "./activity.css";
import { figure } from "../ui/figure";

type Page = components["schemas"]["PageOf_EventModel_"];

/** So many new lines are kept above the list; those after them are counted until somebody loads it anew. */
const MOST_NEW = 500;
interface News {
  /** Newest first, with nothing left out between them and the list below. */
  lines: LogEvent[];
  /** So many came after them, which are not shown. */
  more: number;
}

const NO_NEWS: News = { lines: [], more: 0 };

/** The log as it grows or, at the address of one event, why that happened. */
export default function ActivityPage() {
  const { position } = useParams<{ position?: string }>();
  if (position === undefined) return <Log />;
  const number = /^[1-9]\d*$/.test(position) ? Number(position) : Number.NaN;
  return Number.isSafeInteger(number) ? <Causes position={number} /> : <NotFound />;
}

/** The log itself as it grows: everything that anybody, or any machine, did. */
function Log() {
  useTitle("Activity");
  const [, go] = useLocation();
  const search = useSearch();
  const params = new URLSearchParams(search);
  const kind = params.get("kind");
  const types = KINDS.find((one) => one.name === kind)?.types;
  const story = params.get("story");
  const actor = params.get("actor");
  const [news, setNews] = useState(NO_NEWS);
  const [held, setHeld] = useState(false);
  const narrowed: Narrowed = {
    client: params.get("client"),
    agent: params.get("agent"),
    since: params.get("since"),
    until: params.get("until"),
    q: params.get("q"),
  };
  const { client, agent, q } = narrowed;
  const since = instant(narrowed.since ?? "");
  const until = instant(narrowed.until ?? "");
  const filter: EventQuery = {
    ...(types ? { type: types } : {}),
    ...(story ? { correlation_id: story } : {}),
    ...(actor ? { actor } : {}),
    ...(client ? { client_id: client } : {}),
    ...(agent ? { agent_id: agent } : {}),
    ...(since ? { since } : {}),
    ...(until ? { until } : {}),
  };
  const words = q?.toLowerCase() ?? null;
  const fits = (event: LogEvent): boolean =>
    (client === null || event.client_id === client) &&
    (agent === null || event.agent_id === agent) &&
    (since === null || event.recorded_at >= since) &&
    (until === null || event.recorded_at <= until) &&
    (words === null || event.text.toLowerCase().includes(words) || event.type.toLowerCase().includes(words)) &&
    (types === undefined || types.some((one) => one === event.type)) &&
    (story === null || event.correlation_id === story) &&
    (actor === null || event.actor === actor);
  const log = useInfiniteQuery({
    queryKey: ["activity", filter, q],
    staleTime: 0,
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page) => page.next,
    queryFn: ({ pageParam }) => {
      const query: EventQuery = {
        backwards: true,
        limit: 50,
        ...filter,
        ...(q ? { q } : {}),
        ...(pageParam === null ? {} : { cursor: pageParam }),
      };
      return ask(api.GET("/api/v1/events", { params: { query } }));
    },
  });
  useEvents((event) => {
    if (!fits(event)) return;
    setNews(({ lines, more }) =>
      held || more > 0 || lines.length >= MOST_NEW ? { lines, more: more + 1 } : { lines: [event, ...lines], more },
    );
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: what is asked for now is read anew, up to now
  useEffect(() => setNews(NO_NEWS), [search]);
  const load = async (): Promise<void> => {
    const before = news;
    // What happens while it is read joins what is read.
    setNews(NO_NEWS);
    const { isError } = await log.refetch();
    if (isError) setNews(({ lines, more }) => ({ lines: before.lines, more: before.more + lines.length + more }));
  };
  const show = (changes: Partial<Record<string, string | null>>): void => {
    const next = new URLSearchParams(window.location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === undefined) next.delete(name);
      else next.set(name, value);
    }
    const told = next.toString();
    go(told === "" ? "/activity" : `/activity?${told}`);
  };
  const old = log.data?.pages.flatMap((page) => page.items) ?? [];
  const newest = old[0]?.position ?? 0;
  const all = [...news.lines.filter((event) => event.position > newest && fits(event)), ...old];
  return (
    <div className="page">
      <header>
        <h1>Activity</h1>
        <div className="grow" />
        <Link href="/changes" className="button">
          What changed
        </Link>
        <a className="button" href={`/api/v1/events/export?${exported(filter, q)}`} download="events.ndjson">
          Export
        </a>
        <Button
          aria-pressed={held}
          onClick={() => {
            setHeld(!held);
            if (held) void load();
          }}
        >
          {held ? "Go on" : "Hold"}
        </Button>
      </header>
      <div className="row wrap" role="group" aria-label="Filter the log">
        {KINDS.map(({ name, label }) => (
          <button
            key={name}
            type="button"
            className="chip"
            aria-pressed={kind === name}
            onClick={() => show({ kind: kind === name ? null : name })}
          >
            {label}
          </button>
        ))}
        {story !== null && (
          <button type="button" className="chip" aria-pressed="true" onClick={() => show({ story: null })}>
            one story ✕
          </button>
        )}
        {actor !== null && (
          <button type="button" className="chip" aria-pressed="true" onClick={() => show({ actor: null })}>
            <Actor actor={actor} /> ✕
          </button>
        )}
      </div>
      <Filters narrowed={narrowed} onShow={show} />
      {news.more > 0 && (
        <p className="row" aria-live="polite">
          <span>{figure(news.more)} more since then.</span>
          <Button look="tiny" busy={log.isRefetching} onClick={() => void load()}>
            Load them
          </Button>
        </p>
      )}
      <Fault error={log.error} retry={() => log.refetch()} />
      {log.isSuccess && all.length === 0 ? (
        <div className="empty">
          <h2>{log.hasNextPage ? "Nothing of that kind has happened lately" : "Nothing of that kind has happened"}</h2>
        </div>
      ) : (
        <ol className="story card">
          {all.map((event) => (
            <EventLine
              key={event.position}
              event={event}
              whose
              more={
                <span className="row wrap small">
                  <Link href={`/activity/${event.position}`}>Why it happened, and what followed</Link>
                  <button type="button" className="link" onClick={() => show({ story: event.correlation_id })}>
                    All of this story
                  </button>
                  <button type="button" className="link" onClick={() => show({ actor: event.actor })}>
                    All that <Actor actor={event.actor} /> did
                  </button>
                  {event.agent_id && <Link href={`/agents/${event.agent_id}`}>The machine</Link>}
                </span>
              }
            />
          ))}
        </ol>
      )}
      <More of={log}>Earlier</More>
    </div>
  );
}

/** What is shown, as the export takes it. */
function exported({ type = [], ...filter }: EventQuery, q: string | null): URLSearchParams {
  const query = new URLSearchParams(type.map((one) => ["type", one]));
  for (const [name, value] of Object.entries(filter)) query.set(name, String(value));
  if (q) query.set("q", q);
  return query;
}
