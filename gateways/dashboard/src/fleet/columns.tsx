import { createColumnHelper, type VisibilityState } from "@tanstack/react-table";
import { useState, useSyncExternalStore } from "react";
import { Link } from "wouter";
import { AgentStatus } from "../ui/Status";
import { Time } from "../ui/Time";
import type { Agent } from "./agents";

const column = createColumnHelper<Agent>();
const PLATFORM = { linux: "Linux", windows: "Windows", macos: "macOS" } as const;

declare module "@tanstack/react-table" {
  interface ColumnMeta<TData, TValue> {
    width: string;
    /** The server's name of its order, where the list can be sorted by it. */
    sort?: string;
    /** The way that is of more use, where that is not the usual one. */
    first?: string;
    align?: "end";
  }
}

/** What can be shown of an agent, in the order of the table. */
export const COLUMNS = [
  column.display({
    id: "status",
    header: "Status",
    meta: { width: "6rem", sort: "online" },
    cell: ({ row }) => <AgentStatus agent={row.original} />,
  }),
  column.display({
    id: "name",
    header: "Name",
    meta: { width: "minmax(8.75rem, 1.4fr)", sort: "name" },
    cell: ({ row: { original: agent } }) => (
      <span className="row">
        <Link href={`/agents/${agent.id}`} className="clip strong" title={agent.name}>
          {agent.name}
        </Link>
        {agent.duplicate && (
          <span className="chip warn" title="Another machine has its identity">
            ⚠ duplicate
          </span>
        )}
      </span>
    ),
  }),
  column.display({
    id: "place",
    header: "Client / site",
    meta: { width: "minmax(7.5rem, 2fr)", sort: "client" },
    cell: ({ row: { original: agent } }) => {
      const text = [agent.client_name, agent.site_name].filter(Boolean).join(" / ");
      return <span title={text}>{text}</span>;
    },
  }),
  column.display({
    id: "os",
    header: "System",
    meta: { width: "minmax(6.875rem, 1.6fr)", sort: "platform" },
    cell: ({ row: { original: agent } }) => <span title={agent.os}>{agent.os || PLATFORM[agent.platform]}</span>,
  }),
  column.display({
    id: "tags",
    header: "Tags",
    meta: { width: "minmax(7.5rem, 1fr)" },
    cell: ({ row: { original: agent } }) => (
      <span className="row" title={agent.tags.join(", ")}>
        {agent.tags.slice(0, 1).map((tag) => (
          <span key={tag} className="chip clip">
            {tag}
          </span>
        ))}
        {agent.tags.length > 1 && <span className="chip">+{agent.tags.length - 1}</span>}
      </span>
    ),
  }),
  column.display({
    id: "pending",
    header: "Pending",
    meta: { width: "4.875rem", align: "end", sort: "pending", first: "-pending" },
    cell: ({ row: { original: agent } }) =>
      agent.pending > 0 ? <strong>{agent.pending}</strong> : <span className="muted">0</span>,
  }),
  column.display({
    id: "checks",
    header: "Checks",
    meta: { width: "4.875rem", align: "end", sort: "failing", first: "-failing" },
    cell: ({ row: { original: agent } }) =>
      agent.failing > 0 ? (
        <strong title={`${agent.failing} fail, ${agent.warning} warn`}>✕ {agent.failing}</strong>
      ) : agent.warning > 0 ? (
        <span title={`${agent.warning} warn`}>! {agent.warning}</span>
      ) : (
        <span className="muted">0</span>
      ),
  }),
  column.display({
    id: "updates",
    header: "Updates",
    meta: { width: "4.875rem", align: "end" },
    cell: ({ row: { original: agent } }) =>
      agent.updates === null ? (
        <span className="muted" title="The machine has not said, or cannot">
          –
        </span>
      ) : agent.security_updates ? (
        <strong title={`${agent.security_updates} of them for security`}>{agent.updates}!</strong>
      ) : (
        <span className={agent.updates === 0 ? "muted" : undefined}>{agent.updates}</span>
      ),
  }),
  column.display({
    id: "reboot",
    header: "Restart",
    meta: { width: "78px" },
    cell: ({ row: { original: agent } }) =>
      agent.reboot_needed === null ? (
        <span className="muted" title="The machine has not said, or cannot">
          –
        </span>
      ) : agent.reboot_needed ? (
        <strong title="It waits to be restarted">needed</strong>
      ) : (
        <span className="muted">no</span>
      ),
  }),
  column.display({
    id: "seen",
    header: "Last seen",
    meta: { width: "6.5rem", sort: "seen", first: "-seen" },
    cell: ({ row: { original: agent } }) => (
      <Time at={agent.last_seen_at ?? agent.disconnected_at} over={!agent.online} />
    ),
  }),
  column.display({
    id: "user",
    header: "User",
    meta: { width: "minmax(4.375rem, 0.8fr)" },
    cell: ({ row }) => row.original.logged_in_user,
  }),
  column.display({
    id: "address",
    header: "Address",
    meta: { width: "7.5rem" },
    cell: ({ row }) => row.original.address,
  }),
  column.display({
    id: "version",
    header: "Agent",
    meta: { width: "4.75rem" },
    cell: ({ row }) => row.original.agent_version,
  }),
  column.display({
    id: "enrolled",
    header: "Enrolled",
    meta: { width: "6.5rem", sort: "id" },
    cell: ({ row }) => <Time at={row.original.enrolled_at} />,
  }),
];

const KEY = "fleetlog-fleet-columns";
const USUAL: VisibilityState = { updates: false, user: false, address: false, version: false, enrolled: false };

/** Which columns are shown: the person's choice, kept in this browser. */
export function useColumnChoice(): [VisibilityState, (choice: VisibilityState) => void] {
  const [choice, setChoice] = useState<VisibilityState>(() => {
    try {
      return { ...USUAL, ...(JSON.parse(localStorage.getItem(KEY) ?? "{}") as VisibilityState) };
    } catch {
      return USUAL; // not what we wrote: as if nothing had been chosen
    }
  });
  return [
    choice,
    (next) => {
      localStorage.setItem(KEY, JSON.stringify(next));
      setChoice(next);
    },
  ];
}

/** The columns that an address or a view names; null where it leaves them to each person. */
export function namedColumns(names: readonly string[]): VisibilityState | null {
  if (names.length === 0) return null;
  return Object.fromEntries(COLUMNS.map((one) => [one.id, one.id === "name" || names.includes(String(one.id))]));
}

/** The names of those that are shown. */
export function columnNames(shown: VisibilityState): string[] {
  return COLUMNS.map((one) => String(one.id)).filter((id) => shown[id] !== false);
}

const NARROW = window.matchMedia("(max-width: 47.5rem)");

/** Whether there is room for little more than names. */
export function useNarrow(): boolean {
  return useSyncExternalStore(
    (listener) => {
      NARROW.addEventListener("change", listener);
      return () => NARROW.removeEventListener("change", listener);
    },
    () => NARROW.matches,
  );
}
