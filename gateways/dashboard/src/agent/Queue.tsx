import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { api, ask } from "../api/client";
import { useNames } from "../api/names";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { useAfterEvents, usePolling } from "../app/events";
import { specText } from "../run/spec";
import { waits } from "../run/waits";
import { PriorityOptions } from "../run/when";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { CommandStatus } from "../ui/Status";
import { Time } from "../ui/Time";
import { toastError } from "../ui/Toasts";

type Agent = components["schemas"]["AgentModel"];
type Queued = components["schemas"]["QueuedModel"];
type Page = components["schemas"]["PageOf_QueuedModel_"];

interface Props {
  agent: Agent;
  /** The position as of which it is shown; null is now. */
  at: number | null;
  onOpen: (commandId: string) => void;
  onRun: () => void;
}

/** What waits for the machine, in the order in which it gets it, and why it waits. */
export function Queue({ agent, at, onOpen, onRun }: Props) {
  const client = useQueryClient();
  const may = useMay();
  const polling = usePolling();
  const key = at === null ? ["queue", agent.id] : ["queue", agent.id, at];
  const queue = useInfiniteQuery({
    queryKey: key,
    refetchInterval: at === null && polling,
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page) => page.next,
    queryFn: ({ pageParam }) => {
      const query = {
        limit: 100,
        ...(at === null ? {} : { at }),
        ...(pageParam === null ? {} : { cursor: pageParam }),
      };
      return ask(api.GET("/api/v1/agents/{agent_id}/queue", { params: { path: { agent_id: agent.id }, query } }));
    },
  });
  useAfterEvents(
    (event) => at === null && event.agent_id === agent.id && event.type.startsWith("Command"),
    () => void client.invalidateQueries({ queryKey: key }),
    500,
  );
  const cancel = useChange((id: string) =>
    ask(api.POST("/api/v1/commands/{command_id}/cancel", { params: { path: { command_id: id } }, body: {} })),
  );
  const prioritise = useChange(
    ({ id, priority }: { id: string; priority: number }) =>
      ask(
        api.PUT("/api/v1/commands/{command_id}/priority", { params: { path: { command_id: id } }, body: { priority } }),
      ),
    () => client.invalidateQueries({ queryKey: key }),
  );
  const items = queue.data?.pages.flatMap((page) => page.items) ?? [];
  const names = useNames(items.flatMap(({ spec }) => (spec.kind === "run_script" ? [spec.script_id] : [])));
  const what = ({ spec }: Queued): string =>
    specText(spec, spec.kind === "run_script" ? names.get(spec.script_id)?.name : undefined);
  if (queue.isSuccess && items.length === 0) {
    return at !== null ? (
      <div className="empty">
        <h2>Nothing was pending</h2>
      </div>
    ) : (
      <div className="empty">
        <h2>Nothing is pending</h2>
        <p>
          What you queue for this machine waits here until it has run, also while the machine is off. What ran is in the
          timeline.
        </p>
        {may("commands.queue") && agent.state !== "retired" && <Button onClick={onRun}>Run something</Button>}
      </div>
    );
  }
  const ahead = new Map<string, number>();
  return (
    <div className="card scroll-x">
      <Fault error={queue.error} retry={() => queue.refetch()} />
      <table className="table">
        <thead>
          <tr>
            <th>State</th>
            <th>What</th>
            <th>Priority</th>
            <th>Why it waits</th>
            <th>Queued</th>
            <th>Expires</th>
            <th>
              <span className="hidden-text">Do</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {items.map((one) => {
            const before = ahead.get(one.lane) ?? 0;
            ahead.set(one.lane, before + 1);
            return (
              <tr key={one.id}>
                <td>
                  <CommandStatus state={one.state} />
                </td>
                <td>
                  <button type="button" className="link" onClick={() => onOpen(one.id)}>
                    {what(one)}
                  </button>
                  {one.lane !== "default" && <span className="chip">lane {one.lane}</span>}
                </td>
                <td>
                  {at === null && one.state === "queued" && may("commands.queue") ? (
                    <select
                      className="input"
                      aria-label={`Priority of ${what(one)}`}
                      value={one.priority}
                      disabled={prioritise.isPending}
                      onChange={(event) =>
                        prioritise.mutate(
                          { id: one.id, priority: Number(event.target.value) },
                          {
                            onError: (error) => {
                              toastError(error);
                              void client.invalidateQueries({ queryKey: key });
                            },
                          },
                        )
                      }
                    >
                      <PriorityOptions />
                    </select>
                  ) : (
                    one.priority
                  )}
                </td>
                <td className="muted">{at === null && reason(one, agent, before)}</td>
                <td>
                  <Time at={one.queued_at} />
                </td>
                <td>
                  <Time at={one.expires_at} />
                </td>
                <td>
                  {at === null && may("commands.cancel") && (
                    <Button
                      look="danger tiny"
                      disabled={one.cancel_requested}
                      busy={cancel.isPending && cancel.variables === one.id}
                      onClick={() => cancel.mutate(one.id, { onError: toastError })}
                    >
                      {one.cancel_requested ? "Asked to stop" : "Cancel"}
                    </Button>
                  )}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {queue.hasNextPage && (
        <Button look="plain" onClick={() => queue.fetchNextPage()} busy={queue.isFetchingNextPage}>
          More
        </Button>
      )}
    </div>
  );
}

/** In words, from what the server says of the command and its machine. */
function reason(one: Queued, agent: Agent, before: number): ReactNode {
  if (one.cancel_requested) return "The machine is asked to stop it.";
  if (one.state === "running") return "It runs.";
  if (one.state === "delivered") return "The machine has it on disk; it begins when its turn comes.";
  const { not_before: notBefore, lane } = one;
  return waits({ agent, notBefore, hours: one.hours !== null, lane, ahead: before }) ?? "It is on its way.";
}
