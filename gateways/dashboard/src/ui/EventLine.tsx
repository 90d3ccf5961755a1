import { type ReactNode, useState } from "react";
import type { components } from "../api/schema";
import { Time } from "./Time";

type LogEvent = components["schemas"]["EventModel"];

const TONES: [RegExp, string][] = [
  [/Failed|TimedOut|Interrupted|Rejected|Retired|LockedOut|Refused|Aborted/, "bad"],
  [/Succeeded|Completed|AgentConnected|Enrolled/, "ok"],
  [/Expired|Suspended|Paused|Duplicate/, "warn"],
  [/Started|Delivered|Advanced/, "busy"],
];

interface Props {
  event: LogEvent;
  /** Shows a command; without it commands are not linked. */
  onOpen?: (commandId: string) => void;
  /** What more leads on from here, shown with the event itself. */
  more?: ReactNode;
}

/** What happened, in a sentence; who did it, when, and the event itself on demand. */
export function EventLine({ event, onOpen, more }: Props) {
  const [raw, setRaw] = useState(false);
  const tone = TONES.find(([pattern]) => pattern.test(event.type))?.[1] ?? "off";
  const command = event.type.startsWith("Command") && onOpen !== undefined;
  return (
    <li className="event">
      <span className={`event-dot ${tone}`} aria-hidden="true" />
      <div className="grow">
        {command ? (
          <button type="button" className="link" onClick={() => onOpen(event.stream_id)}>
            {event.text}
          </button>
        ) : (
          <span>{event.text}</span>
        )}
        {raw && more}
        {raw && (
          <pre className="json" tabIndex={0}>
            {JSON.stringify(event, null, 2)}
          </pre>
        )}
      </div>
      <span className="muted small nowrap event-actor clip" title={event.actor}>
        {actor(event.actor)}
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

/** "user 3f2a…": who it was, short; the whole is on hover. */
function actor(name: string): string {
  const [kind, id] = name.split(":");
  return id === undefined ? name : `${kind} …${id.slice(-6)}`;
}
