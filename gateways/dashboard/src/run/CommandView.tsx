import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { figure } from "../ui/figure";
import { CommandStatus, ENDED } from "../ui/Status";
import { duration, Time } from "../ui/Time";
import { AnsiReader } from "./ansi";
import { useLive } from "./follow";
import { Output } from "./Output";
import { Story } from "./Story";
import { What } from "./What";

type Command = components["schemas"]["CommandModel"];
type Stream = "stdout" | "stderr";

/** Of more than this the end is shown, and the whole is downloaded. */
const SHOWN_BYTES = 2_000_000;

interface Props {
  commandId: string;
  /** Shows another command in place of this one. */
  onOther: (commandId: string) => void;
}

/** One command: what was asked, how far it is, what it prints and how it ended; cancel and retry. */
export function CommandView({ commandId, onOther }: Props) {
  const client = useQueryClient();
  const may = useMay();
  const live = useLive(commandId);
  const command = useQuery({
    queryKey: ["command", commandId],
    queryFn: () => ask(api.GET("/api/v1/commands/{command_id}", { params: { path: { command_id: commandId } } })),
  });
  const state = live.state ?? command.data?.state ?? null;
  const ended = state !== null && ENDED.has(state);
  const stale = ended && command.data !== undefined && !ENDED.has(command.data.state);
  // The stream says that it is over as soon as the log does; the row follows.
  useEffect(() => {
    if (!stale) return;
    const timer = setInterval(() => client.invalidateQueries({ queryKey: ["command", commandId] }), 300);
    return () => clearInterval(timer);
  }, [stale, client, commandId]);
  const cancel = useChange(() =>
    ask(api.POST("/api/v1/commands/{command_id}/cancel", { params: { path: { command_id: commandId } }, body: {} })),
  );
  const retry = useChange(
    () =>
      ask(api.POST("/api/v1/commands/{command_id}/retry", { params: { path: { command_id: commandId } }, body: {} })),
    (answer) => onOther(answer.id),
  );
  const shown = command.data;
  return (
    <div className="stack">
      <Fault error={command.error ?? cancel.error ?? retry.error} />
      <div className="row wrap">
        {state !== null && <CommandStatus state={state} />}
        {shown?.exit_code != null && (
          <span className={shown.exit_code === 0 ? "ok" : "bad"}>exit code {shown.exit_code}</span>
        )}
        {live.attempt > 1 && <span className="muted">attempt {live.attempt}</span>}
        {shown?.result && ended && <span className="muted">took {duration(shown.result.duration_ms ?? 0)}</span>}
        {shown && (
          <span className="muted">
            queued <Time at={shown.queued_at} />
          </span>
        )}
        <div className="grow" />
        {!ended && state !== null && may("commands.cancel") && (
          <Button
            look="danger tiny"
            busy={cancel.isPending}
            disabled={cancel.isSuccess}
            onClick={() => cancel.mutate()}
          >
            {cancel.isSuccess ? "Asked to stop" : "Cancel"}
          </Button>
        )}
        {ended && may("commands.queue") && (
          <Button look="tiny" busy={retry.isPending} onClick={() => retry.mutate()}>
            Run again
          </Button>
        )}
      </div>
      {shown && <What spec={shown.spec} />}
      {shown?.detail && <div className="notice warn">{shown.detail}</div>}
      {!may("commands.output") ? (
        <p className="muted">What it prints is for those who may read outputs.</p>
      ) : ended && shown && !stale ? (
        <Whole command={shown} live={live.holes ? null : live.reader} received={live.received} />
      ) : (
        <Output reader={live.reader} version={live.version} going={!ended} label="Output" empty={waiting(state)} />
      )}
      {shown && <Story commandId={commandId} />}
    </div>
  );
}

function waiting(state: string | null): string {
  if (state === null) return "Looking…";
  if (state === "queued") return "It waits in the machine's queue. What it prints appears here as it is written.";
  if (state === "delivered") return "The machine has it on disk and will begin at once.";
  return "Nothing printed yet.";
}

interface WholeProps {
  command: Command;
  live: AnsiReader | null;
  received: Record<string, number>;
}

/** All that was printed: what came live, where that was all of it, and otherwise as it is kept. */
function Whole({ command, live, received }: WholeProps) {
  const result = command.result;
  if (result === null) return <p className="muted">It left no output: it did not run.</p>;
  const sizes = { stdout: result.stdout?.size ?? 0, stderr: result.stderr?.size ?? 0 };
  const complete =
    live !== null &&
    (received.stdout ?? 0) === sizes.stdout &&
    (received.stderr ?? 0) === sizes.stderr &&
    sizes.stdout + sizes.stderr > 0;
  if (sizes.stdout + sizes.stderr === 0) return <p className="muted">It printed nothing.</p>;
  return (
    <>
      {complete ? (
        <Output reader={live} version={0} going={false} label="Output" empty="" />
      ) : (
        (["stdout", "stderr"] as const)
          .filter((stream) => sizes[stream] > 0)
          .map((stream) => <Kept key={stream} command={command} stream={stream} size={sizes[stream]} />)
      )}
      <div className="row wrap small">
        {(["stdout", "stderr"] as const)
          .filter((stream) => sizes[stream] > 0)
          .map((stream) => (
            <a key={stream} href={`/api/v1/commands/${command.id}/output?stream=${stream}`} download>
              Download {stream} ({figure(sizes[stream])} bytes)
            </a>
          ))}
      </div>
    </>
  );
}

function Kept({ command, stream, size }: { command: Command; stream: Stream; size: number }) {
  const [large] = useState(size > SHOWN_BYTES);
  const text = useQuery({
    queryKey: ["output", command.id, command.attempt, stream],
    enabled: !large,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () =>
      ask(
        api.GET("/api/v1/commands/{command_id}/output", {
          params: { path: { command_id: command.id }, query: { stream } },
          parseAs: "text",
        }),
      ) as Promise<string>,
  });
  // Retention may have removed the whole; its end is in the result.
  const tail = command.result?.[stream]?.tail ?? "";
  const shown = large || text.isError ? tail : text.data;
  const reader = useMemo(() => {
    const made = new AnsiReader();
    made.feed(shown ?? "", stream);
    return made;
  }, [shown, stream]);
  return (
    <>
      {(large || text.isError) && (
        <p className="muted small">
          {large
            ? "This is the end of it; download the whole below."
            : "The whole is not kept any more; this is its end."}
        </p>
      )}
      <Output reader={reader} version={0} going={false} label={stream} empty={text.isPending ? "Loading…" : ""} />
    </>
  );
}
