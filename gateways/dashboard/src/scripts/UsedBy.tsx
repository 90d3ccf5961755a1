import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { CommandDialog } from "../agent/CommandDialog";
import { api, ask } from "../api/client";
import { useNames } from "../api/names";
import { useMay } from "../api/session";
import { useAfterEvents } from "../app/events";
import { RolloutStatus } from "../rollouts/counts";
import { Fault } from "../ui/Fault";
import { CommandStatus } from "../ui/Status";
import { Time } from "../ui/Time";

const MOST = 10;

/** The rollouts and commands that ran it last. */
export function UsedBy({ scriptId }: { scriptId: string }) {
  const may = useMay();
  const client = useQueryClient();
  const [command, setCommand] = useState<string | null>(null);
  const query = { script_id: scriptId, limit: MOST };
  const rollouts = useQuery({
    queryKey: ["used-by", scriptId, "rollouts"],
    enabled: may("rollouts.see"),
    queryFn: () => ask(api.GET("/api/v1/rollouts", { params: { query } })),
  });
  const commands = useQuery({
    queryKey: ["used-by", scriptId, "commands"],
    enabled: may("commands.see"),
    queryFn: () => ask(api.GET("/api/v1/commands", { params: { query } })),
  });
  useAfterEvents(
    (event) => event.type.startsWith("Command") || event.type.startsWith("Rollout"),
    () => void client.invalidateQueries({ queryKey: ["used-by", scriptId] }),
    3_000,
  );
  const runs = commands.data?.items ?? [];
  const names = useNames(runs.map((one) => one.agent_id));
  const never = commands.isSuccess && runs.length === 0 && (rollouts.data?.items.length ?? 0) === 0;
  return (
    <section className="card stack" aria-label="Used by">
      <h2>Ran last</h2>
      <Fault error={rollouts.error ?? commands.error} />
      {never && <p className="muted small">Nothing has run it yet.</p>}
      <ul className="revisions">
        {rollouts.data?.items.map((one) => (
          <li key={one.id}>
            <RolloutStatus state={one.state} />
            <Link href={`/rollouts/${one.id}`} className="grow clip">
              {one.name}
            </Link>
            <Time at={one.started_at} />
          </li>
        ))}
        {runs.map((one) => (
          <li key={one.id}>
            <CommandStatus state={one.state} />
            <button type="button" className="link grow clip" onClick={() => setCommand(one.id)}>
              {names.get(one.agent_id)?.name ?? "a machine"}
            </button>
            <Time at={one.queued_at} />
          </li>
        ))}
      </ul>
      {command !== null && <CommandDialog commandId={command} onOther={setCommand} onClose={() => setCommand(null)} />}
    </section>
  );
}
