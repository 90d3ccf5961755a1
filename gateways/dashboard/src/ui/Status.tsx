import type { components } from "../api/schema";

export type Tone = "ok" | "warn" | "bad" | "busy" | "off";
export type Shape = "full" | "ring" | "half" | "bars" | "cross" | "tick" | "dash" | "clock" | "arrow";

const PATHS: Record<Shape, React.ReactNode> = {
  full: <circle cx="6" cy="6" r="4.5" fill="currentColor" />,
  ring: <circle cx="6" cy="6" r="3.7" fill="none" stroke="currentColor" strokeWidth="1.6" />,
  half: (
    <>
      <circle cx="6" cy="6" r="4" fill="none" stroke="currentColor" strokeWidth="1.4" />
      <path d="M6 2a4 4 0 0 1 0 8z" fill="currentColor" />
    </>
  ),
  bars: <path d="M4 2.5v7M8 2.5v7" stroke="currentColor" strokeWidth="2" />,
  cross: <path d="M2.5 2.5l7 7M9.5 2.5l-7 7" stroke="currentColor" strokeWidth="1.8" strokeLinecap="round" />,
  tick: (
    <path
      d="M2 6.5l2.8 2.8L10 3.2"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.8"
      strokeLinecap="round"
      strokeLinejoin="round"
    />
  ),
  dash: <path d="M2.5 6h7" stroke="currentColor" strokeWidth="1.8" strokeLinecap="round" />,
  clock: (
    <path
      d="M6 1.8a4.2 4.2 0 1 0 0 8.4 4.2 4.2 0 0 0 0-8.4M6 3.5V6l1.8 1.2"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.4"
      strokeLinecap="round"
    />
  ),
  arrow: <path d="M3.5 2.2v7.6L10 6z" fill="currentColor" />,
};

interface Props {
  tone: Tone;
  shape: Shape;
  children: React.ReactNode;
  title?: string;
}

/** A state: its shape, its colour and its word. */
export function Status({ tone, shape, children, title }: Props) {
  return (
    <span className={`status ${tone}`} title={title}>
      <ShapeIcon shape={shape} />
      {children}
    </span>
  );
}

/** The shape alone: its word stands beside it. */
export function ShapeIcon({ shape }: { shape: Shape }) {
  return (
    <svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true" data-shape={shape}>
      {PATHS[shape]}
    </svg>
  );
}

type Agent = Pick<components["schemas"]["AgentModel"], "state" | "online">;

export function AgentStatus({ agent }: { agent: Agent }) {
  if (agent.state === "retired") {
    return (
      <Status tone="off" shape="cross">
        retired
      </Status>
    );
  }
  if (agent.state === "suspended") {
    return (
      <Status tone="warn" shape="bars">
        suspended
      </Status>
    );
  }
  return agent.online ? (
    <Status tone="ok" shape="full">
      online
    </Status>
  ) : (
    <Status tone="off" shape="ring">
      offline
    </Status>
  );
}

export type CommandState = components["schemas"]["CommandState"];

const COMMANDS: Record<CommandState, [Tone, Shape, string]> = {
  queued: ["off", "clock", "queued"],
  delivered: ["busy", "half", "delivered"],
  running: ["busy", "arrow", "running"],
  succeeded: ["ok", "tick", "succeeded"],
  failed: ["bad", "cross", "failed"],
  timed_out: ["bad", "clock", "timed out"],
  interrupted: ["bad", "bars", "interrupted"],
  rejected: ["bad", "dash", "rejected"],
  cancelled: ["off", "dash", "cancelled"],
  expired: ["warn", "clock", "expired"],
};

export function CommandStatus({ state }: { state: CommandState }) {
  const [tone, shape, word] = COMMANDS[state];
  return (
    <Status tone={tone} shape={shape}>
      {word}
    </Status>
  );
}

export const ENDED: ReadonlySet<CommandState> = new Set<CommandState>([
  "succeeded",
  "failed",
  "timed_out",
  "interrupted",
  "rejected",
  "cancelled",
  "expired",
]);
