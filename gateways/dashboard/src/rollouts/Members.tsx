import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Link, useLocation, useSearch } from "wouter";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { figure } from "../ui/figure";
import { type CommandState, CommandStatus, Status } from "../ui/Status";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";
import type { Counts } from "./counts";

type Rollout = components["schemas"]["RolloutWithCountsModel"];
type Member = components["schemas"]["MemberModel"];
type Page = components["schemas"]["PageOf_MemberModel_"];
type State = keyof Counts;

export const FAILED = ["failed", "timed_out", "interrupted", "rejected", "expired"] as const satisfies State[];
const PAGE = 50;
const MOST_SITES = 200;

/** What the list can be narrowed to, in the order in which one asks. */
const GROUPS: readonly [string, string, readonly State[]][] = [
  ["all", "All", []],
  ["failed", "Failed", FAILED],
  ["succeeded", "Succeeded", ["succeeded"]],
  ["running", "Running", ["running", "delivered"]],
  ["queued", "Queued", ["queued"]],
  ["waiting", "Waiting", ["waiting"]],
  ["cancelled", "Cancelled", ["cancelled"]],
  ["skipped", "Skipped", ["skipped"]],
];

interface Props {
  rollout: Rollout;
  onOpen: (commandId: string) => void;
  /** What can be done about those that failed. */
  retry: ReactNode;
}

/** Its machines, as far as one wants to see them: by state, wave and site. The address keeps which. */
export function Members({ rollout, onOpen, retry }: Props) {
  const [, go] = useLocation();
  const params = new URLSearchParams(useSearch());
  const may = useMay();
  const { counts } = rollout;
  const failed = FAILED.reduce((total, state) => total + counts[state], 0);
  const chosen = params.get("state") ?? (failed > 0 ? "failed" : "all");
  const states = GROUPS.find(([name]) => name === chosen)?.[2] ?? [];
  const wave = Number(params.get("wave")) || null;
  const site = params.get("site");
  const narrow = (name: string, value: string): void => {
    const next = new URLSearchParams(window.location.search);
    if (value === "") next.delete(name);
    else next.set(name, value);
    const told = next.toString();
    go(`/rollouts/${rollout.id}${told === "" ? "" : `?${told}`}`, { replace: true });
  };
  const path = { rollout_id: rollout.id };
  const sites = useQuery({
    queryKey: ["rollouts", rollout.id, "sites"],
    queryFn: () =>
      ask(api.GET("/api/v1/rollouts/{rollout_id}/sites", { params: { path, query: { limit: MOST_SITES } } })),
  });
  const members = useInfiniteQuery({
    // Asked for anew as those grow that are shown, and not for each event.
    queryKey: ["rollouts", rollout.id, "members", chosen, wave, site, ...states.map((state) => counts[state])],
    placeholderData: (before) => before,
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page) => page.next,
    queryFn: ({ pageParam }) => {
      const query = {
        limit: PAGE,
        state: [...states],
        ...(wave === null ? {} : { wave }),
        ...(site === null ? {} : { site_id: site }),
        ...(pageParam === null ? {} : { cursor: pageParam }),
      };
      return ask(api.GET("/api/v1/rollouts/{rollout_id}/agents", { params: { path, query } }));
    },
  });
  const items = members.data?.pages.flatMap((page) => page.items) ?? [];
  const places = new Map((sites.data?.items ?? []).map((one) => [one.site_id, one]));
  const count = (some: readonly State[]): number =>
    some.length === 0 ? rollout.targeted : some.reduce((total, state) => total + counts[state], 0);
  const waves = rollout.waves.length > 1;
  const heads = ["Machine", "State", "Site", ...(waves ? ["Wave"] : []), "Exit code", "Ended", ""];
  return (
    <section className="card stack" aria-label="Machines">
      <header>
        <h2>Machines</h2>
        {chosen === "failed" && retry}
      </header>
      <div className="row wrap" role="group" aria-label="Filter the machines">
        {GROUPS.filter(([name, , some]) => name === "all" || name === chosen || count(some) > 0).map(
          ([name, label, some]) => (
            <button
              key={name}
              type="button"
              className="chip"
              aria-pressed={name === chosen}
              onClick={() => narrow("state", name)}
            >
              {label} {figure(count(some))}
            </button>
          ),
        )}
        {waves && (
          <select
            className="input narrow"
            aria-label="Wave"
            value={wave ?? ""}
            onChange={(change) => narrow("wave", change.target.value)}
          >
            <option value="">Every wave</option>
            {rollout.waves.map((one) => (
              <option key={one.wave} value={one.wave}>
                Wave {one.wave}
              </option>
            ))}
          </select>
        )}
        {places.size > 1 && (
          <select
            className="input narrow"
            aria-label="Site"
            value={site ?? ""}
            onChange={(change) => narrow("site", change.target.value)}
          >
            <option value="">Every site</option>
            {[...places.values()].map((one) => (
              <option key={one.site_id} value={one.site_id}>
                {one.client ?? "client"} / {one.site ?? "site"}
              </option>
            ))}
          </select>
        )}
      </div>
      <Fault error={members.error} retry={() => members.refetch()} />
      {members.isSuccess && items.length === 0 ? (
        <p className="muted">None of them is that.</p>
      ) : (
        <Table title="Machines" heads={heads}>
          {items.map((one) => (
            <tr key={one.agent_id}>
              <th scope="row">
                <Link href={`/agents/${one.agent_id}`}>{one.agent ?? one.agent_id}</Link>
                {one.round > 1 && <span className="muted small"> try {one.round}</span>}
              </th>
              <td>
                <MemberStatus member={one} />
              </td>
              <td className="muted">{places.get(one.site_id)?.site ?? "–"}</td>
              {waves && <td>{one.wave}</td>}
              <td>{one.exit_code ?? <span className="muted">–</span>}</td>
              <td>{one.ended_at === null ? <span className="muted">–</span> : <Time at={one.ended_at} />}</td>
              <td>
                {one.state !== "waiting" && one.state !== "skipped" && may("commands.see") && (
                  <Button look="tiny" onClick={() => onOpen(one.command_id)}>
                    Output<span className="hidden-text"> of {one.agent ?? one.agent_id}</span>
                  </Button>
                )}
              </td>
            </tr>
          ))}
        </Table>
      )}
      {members.hasNextPage && (
        <Button look="plain" onClick={() => members.fetchNextPage()} busy={members.isFetchingNextPage}>
          More
        </Button>
      )}
    </section>
  );
}

function MemberStatus({ member }: { member: Member }) {
  switch (member.state) {
    case "waiting":
      return (
        <Status tone="off" shape="ring">
          waiting
        </Status>
      );
    case "skipped":
      return (
        <>
          <Status tone="off" shape="dash">
            skipped
          </Status>
          {member.detail && <div className="muted small breakable">{member.detail}</div>}
        </>
      );
    default:
      return <CommandStatus state={member.state as CommandState} />;
  }
}
