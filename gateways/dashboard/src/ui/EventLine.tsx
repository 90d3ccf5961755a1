import { Fragment, type ReactNode, useState } from "react";
import { Link } from "wouter";
import { isId, type Named, pageOf, useNames } from "../api/names";
import type { components } from "../api/schema";
import { type Shape, ShapeIcon, type Tone } from "./Status";
import { exact, Time } from "./Time";

type LogEvent = components["schemas"]["EventModel"];

const LOOKS: [RegExp, Tone, Shape][] = [
  [/Failed|TimedOut|Interrupted|Rejected|Retired|LockedOut|Refused|Aborted/, "bad", "cross"],
  [/Succeeded|Completed|AgentConnected|Enrolled/, "ok", "tick"],
  [/Expired|Suspended|Paused|Duplicate/, "warn", "bars"],
  [/Started|Delivered|Advanced/, "busy", "arrow"],
];

const NEUTRAL: [null, Tone, Shape] = [null, "off", "ring"];

const ID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;

/** Those, and times as the server says them. */
const INSERTED = new RegExp(`${ID.source}|\\d{4}-\\d{2}-\\d{2} \\d{2}:\\d{2}:\\d{2} UTC`, "g");

interface Props {
  event: LogEvent;
  /** Shows a command; without it commands are not linked. */
  onOpen?: (commandId: string) => void;
  /** Says to what it happened, where that is not what the page is about. */
  whose?: boolean;
  /** What more leads on from here, shown with the event itself. */
  more?: ReactNode;
}

/** What happened, in a sentence; who did it, when, and the event itself on demand. */
export function EventLine({ event, onOpen, whose = false, more }: Props) {
  const [raw, setRaw] = useState(false);
  const [, tone, shape] = LOOKS.find(([pattern]) => pattern.test(event.type)) ?? NEUTRAL;
  const command = onOpen === undefined ? undefined : commandOf(event);
  const about = event.text.match(ID) ?? [];
  const actorId = event.actor.split(":")[1];
  const names = useNames([
    ...about,
    ...(actorId === undefined ? [] : [actorId]),
    ...(whose ? [event.stream_id, ...(event.agent_id ? [event.agent_id] : [])] : []),
  ]);
  const of = whose
    ? (names.get(event.stream_id) ?? (event.agent_id ? names.get(event.agent_id) : undefined))
    : undefined;
  const said = <Sentence text={event.text} names={names} />;
  const who = actor(event.actor, names);
  return (
    <li className="event">
      <span className={`event-mark ${tone}`}>
        <ShapeIcon shape={shape} />
      </span>
      <div className="grow breakable">
        {of !== undefined && (
          <>
            <Called one={of} />
            {" · "}
          </>
        )}
        {command !== undefined ? (
          <button type="button" className="link" onClick={() => onOpen?.(command)}>
            {said}
          </button>
        ) : (
          <span>{said}</span>
        )}
        {raw && more}
        {raw && (
          <pre className="json" tabIndex={0}>
            {JSON.stringify(event, null, 2)}
          </pre>
        )}
      </div>
      <span className="muted small nowrap event-actor clip" title={event.actor}>
        {who}
      </span>
      <Time at={event.recorded_at} />
      <button
        type="button"
        className="button plain tiny"
        aria-expanded={raw}
        aria-label={`The event itself, at position ${event.position}`}
        onClick={() => setRaw(!raw)}
      >
        {"{ }"}
      </button>
    </li>
  );
}

/** The command that it is about: its own, or one of whose output or secrets it tells. */
function commandOf(event: LogEvent): string | undefined {
  if (event.type.startsWith("Command")) return event.stream_id;
  const named = event.type === "OutputRead" || event.type === "SecretsRead" ? event.data.command_id : undefined;
  return typeof named === "string" ? named : undefined;
}

function Called({ one }: { one: Named }) {
  const page = pageOf(one);
  return page === undefined ? (
    <strong>{one.name}</strong>
  ) : (
    <Link href={page} className="strong">
      {one.name}
    </Link>
  );
}

/** What the server says of it, with names in place of the ids that have one, and times by the viewer's own clock. */
function Sentence({ text, names }: { text: string; names: ReadonlyMap<string, Named> }) {
  const found = text.match(INSERTED) ?? [];
  return text.split(INSERTED).map((part, index) => {
    const one = found[index];
    return (
      // biome-ignore lint/suspicious/noArrayIndexKey: a sentence stays as it is
      <Fragment key={index}>
        {part}
        {one !== undefined && <Inserted text={one} names={names} />}
      </Fragment>
    );
  });
}

function Inserted({ text, names }: { text: string; names: ReadonlyMap<string, Named> }) {
  if (!text.endsWith(" UTC")) return <span title={text}>{names.get(text)?.name ?? text}</span>;
  const at = `${text.slice(0, -4).replace(" ", "T")}Z`;
  // A reason that somebody wrote may hold what only looks like a time.
  if (Number.isNaN(Date.parse(at))) return text;
  return (
    <time dateTime={at} title={text}>
      {exact(at)}
    </time>
  );
}

/** "Ada", "key backup", "agent web-01", "gateway one": who it was; where an id has no name, its end. */
function actor(name: string, names: ReadonlyMap<string, Named>): string {
  const [kind, id] = name.split(":");
  if (id === undefined) return name;
  if (!isId(id)) return `${kind} ${id}`;
  const called = names.get(id)?.name;
  if (called === undefined) return `${kind} …${id.slice(-6)}`;
  return kind === "user" ? called : `${kind} ${called}`;
}

/** Who it was. */
export function Actor({ actor: name }: { actor: string }) {
  const id = name.split(":")[1];
  const names = useNames(id === undefined ? [] : [id]);
  return <span title={name}>{actor(name, names)}</span>;
}
