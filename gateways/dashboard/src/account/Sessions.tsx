import { useQuery, useQueryClient } from "@tanstack/react-query";
import { api, ask } from "../api/client";
import { SESSION } from "../api/session";
import { useChange } from "../app/change";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Status } from "../ui/Status";
import { SureButton } from "../ui/SureButton";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";
import { toast } from "../ui/Toasts";

const KEY = ["own", "sessions"];

/** Where one is logged in: each can be ended from here. */
export function Sessions() {
  const client = useQueryClient();
  const sessions = useQuery({ queryKey: KEY, staleTime: 0, queryFn: () => ask(api.GET("/api/v1/sessions")) });
  const again = () => client.invalidateQueries({ queryKey: KEY });
  const end = useChange(
    (id: string) =>
      ask(api.POST("/api/v1/sessions/{session_id}/revoke", { params: { path: { session_id: id } }, body: {} })),
    again,
  );
  const items = sessions.data?.items ?? [];
  const others = items.filter((one) => !one.current);
  const endOthers = useChange(
    async () => {
      // One by one: ending all of them at once would end this one, too.
      for (const one of others) {
        const path = { session_id: one.id };
        await ask(api.POST("/api/v1/sessions/{session_id}/revoke", { params: { path }, body: {} }));
      }
    },
    () => {
      toast("You are logged in here alone.");
      return again();
    },
  );
  const endAll = useChange(
    () => ask(api.POST("/api/v1/sessions/revoke", { body: {} })),
    () => client.invalidateQueries({ queryKey: SESSION }),
  );
  return (
    <section className="card account" aria-label="Sessions">
      <header>
        <h2>Where you are logged in</h2>
        {others.length > 0 && (
          <Button busy={endOthers.isPending} onClick={() => endOthers.mutate()}>
            End all others
          </Button>
        )}
        <SureButton sure="End all, this one too: click again" busy={endAll.isPending} onClick={() => endAll.mutate()}>
          End all
        </SureButton>
      </header>
      <Fault error={sessions.error ?? end.error ?? endOthers.error ?? endAll.error} />
      <Table title="Sessions" heads={["Program", "From", "Begun", "Last used", "Over", ""]}>
        {items.map((one) => (
          <tr key={one.id}>
            <th scope="row" className="breakable" title={one.agent}>
              {program(one.agent)}
            </th>
            <td className="nowrap">{one.address}</td>
            <td>
              <Time at={one.opened_at} />
            </td>
            <td>
              <Time at={one.seen_at} />
            </td>
            <td>
              <Time at={one.expires_at} />
            </td>
            <td>
              {one.current ? (
                <Status tone="ok" shape="full">
                  this one
                </Status>
              ) : (
                <Button
                  look="danger tiny"
                  aria-label={`End the session of ${program(one.agent)} from ${one.address}`}
                  busy={end.isPending && end.variables === one.id}
                  onClick={() => end.mutate(one.id)}
                >
                  End
                </Button>
              )}
            </td>
          </tr>
        ))}
      </Table>
    </section>
  );
}

const BROWSERS: readonly [RegExp, string][] = [
  [/Edg\//, "Edge"],
  [/Firefox\//, "Firefox"],
  [/Chrome\//, "Chrome"],
  [/Safari\//, "Safari"],
];
const SYSTEMS: readonly [RegExp, string][] = [
  [/Windows/, "Windows"],
  [/Android/, "Android"],
  [/iPhone|iPad/, "iOS"],
  [/Mac OS/, "macOS"],
  [/Linux/, "Linux"],
];

/** "Firefox on Linux": what a browser calls itself, as people do; another program by its own words. */
function program(agent: string): string {
  const browser = BROWSERS.find(([pattern]) => pattern.test(agent))?.[1];
  if (browser === undefined) return agent || "A program that does not say";
  const system = SYSTEMS.find(([pattern]) => pattern.test(agent))?.[1];
  return system === undefined ? browser : `${browser} on ${system}`;
}
