import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
import { api, ask } from "../api/client";
import { isProblem } from "../api/problem";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useAfterEvents } from "../app/events";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { More } from "../ui/More";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";
import { History } from "./History";

type Agent = components["schemas"]["AgentDetailModel"];
type Page = components["schemas"]["SoftwareModel"];

const InstallDialog = lazy(() => import("./InstallDialog"));
const RestartDialog = lazy(() => import("./RestartDialog"));

interface Props {
  agent: Agent;
  /** The position as of which it is shown; null is now. */
  at: number | null;
  onOpen: (commandId: string) => void;
}

/** What the machine offers to update, and what was installed of it. */
export default function AgentPatches({ agent, at, onOpen }: Props) {
  const client = useQueryClient();
  const may = useMay();
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [installing, setInstalling] = useState<"chosen" | "security" | "all" | null>(null);
  const [restarting, setRestarting] = useState(false);
  const key = ["patches", agent.id, "open", at];
  const open = useInfiniteQuery({
    queryKey: key,
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page) => page.next,
    queryFn: ({ pageParam }) => {
      const query = {
        limit: 500,
        updates: true,
        ...(at === null ? {} : { at }),
        ...(pageParam === null ? {} : { cursor: pageParam }),
      };
      return ask(api.GET("/api/v1/agents/{agent_id}/software", { params: { path: { agent_id: agent.id }, query } }));
    },
  });
  useAfterEvents(
    (event) => at === null && event.agent_id === agent.id && event.type === "AgentSoftwareReported",
    () => void client.invalidateQueries({ queryKey: key }),
  );
  const [first] = open.data?.pages ?? [];
  const found = open.data?.pages.flatMap((page) => page.items) ?? [];
  const items = [...found.filter((one) => one.security), ...found.filter((one) => !one.security)];
  const names = [...chosen].filter((name) => items.some((one) => one.name === name));
  const acts = at === null && agent.state === "active" && may("commands.patch") && may("commands.queue");
  const unknown = isProblem(open.error, "no_software") || first?.updates === null;
  const choose = (name: string, on: boolean): void => {
    const next = new Set(chosen);
    if (on) next.add(name);
    else next.delete(name);
    setChosen(next);
  };
  return (
    <section className="stack" aria-label="Patches">
      {agent.reboot_needed && (
        <div className="notice row wrap">
          <span className="grow">
            This machine waits to be restarted: something that was installed counts from then.
          </span>
          {acts && <Button onClick={() => setRestarting(true)}>Restart…</Button>}
        </div>
      )}
      <div className="row wrap">
        <p className="grow muted">
          {first && !unknown && (
            <>
              {first.updates === 0 ? "Nothing is open" : `${first.updates} open`}
              {first.security_updates ? `, ${first.security_updates} of them for security` : ""}, as of{" "}
              <Time at={first.reported_at} />.
            </>
          )}
          {unknown && "The machine has not said what could be updated, or cannot."}
        </p>
        {acts && (
          <>
            {names.length > 0 && (
              <Button look="primary" onClick={() => setInstalling("chosen")}>
                Install {names.length} chosen…
              </Button>
            )}
            {first !== undefined && (first.security_updates ?? 0) > 0 && (
              <Button onClick={() => setInstalling("security")}>Install security updates…</Button>
            )}
            {items.length > 0 && <Button onClick={() => setInstalling("all")}>Install all…</Button>}
            {!agent.reboot_needed && <Button onClick={() => setRestarting(true)}>Restart…</Button>}
          </>
        )}
      </div>
      {!unknown && !isProblem(open.error, "software_not_kept") && (
        <Fault error={open.error} retry={() => open.refetch()} />
      )}
      {items.length > 0 && (
        <div className="card">
          <Table title="Open updates" heads={["Update", "Installed", "Offered", "By"]}>
            {items.map((one) => (
              <tr key={`${one.name} ${one.arch} ${one.source} ${one.update}`}>
                <td>
                  <span className="row">
                    {acts && (
                      <input
                        type="checkbox"
                        aria-label={one.name}
                        checked={chosen.has(one.name)}
                        onChange={(event) => choose(one.name, event.target.checked)}
                      />
                    )}
                    <strong>{one.name}</strong> {one.security && <span className="chip">security</span>}
                  </span>
                </td>
                <td className="mono">{one.version}</td>
                <td className="mono">{one.update}</td>
                <td className="muted">{one.source}</td>
              </tr>
            ))}
          </Table>
        </div>
      )}
      <More of={open} />
      {may("commands.see") && <History agent={agent} at={at} onOpen={onOpen} />}
      {installing !== null && (
        <Suspense>
          <InstallDialog
            agent={agent}
            names={installing === "chosen" ? names : []}
            security={installing === "security"}
            onDone={() => setChosen(new Set())}
            onClose={() => setInstalling(null)}
          />
        </Suspense>
      )}
      {restarting && (
        <Suspense>
          <RestartDialog agent={agent} onClose={() => setRestarting(false)} />
        </Suspense>
      )}
    </section>
  );
}
