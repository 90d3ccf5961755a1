import { lazy, Suspense, useState } from "react";
import type { components } from "../api/schema";
import { type Permission, useMay } from "../api/session";
import { useMenu } from "../ui/menu";
import type { Action } from "./ActionDialog";

type Agent = components["schemas"]["AgentDetailModel"];

const ActionDialog = lazy(() => import("./ActionDialog"));
const ACTIONS: readonly [Action, string, Permission][] = [
  ["rename", "Rename…", "agents.edit"],
  ["tag", "Tags…", "agents.edit"],
  ["move", "Move…", "agents.move"],
  ["suspend", "Suspend…", "agents.suspend"],
  ["resume", "Resume…", "agents.suspend"],
  ["collect", "Collect facts…", "commands.queue"],
  ["rotate", "Give it another key…", "agents.keys"],
  ["retire", "Retire…", "agents.retire"],
];

/** What the person may do to the machine's entry, beside running something. */
export function Actions({ agent }: { agent: Agent }) {
  const may = useMay();
  const menu = useMenu();
  const [action, setAction] = useState<Action | null>(null);
  const offered = ACTIONS.filter(
    ([name, , needs]) =>
      may(needs) &&
      (name !== "rotate" || may("commands.queue")) &&
      (name !== "suspend" || agent.state === "active") &&
      (name !== "resume" || agent.state === "suspended"),
  );
  if (agent.state === "retired" || offered.length === 0) return null;
  return (
    <>
      <details className="menu" ref={menu}>
        <summary className="button">Change</summary>
        <div className="menu-body">
          {offered.map(([name, label]) => (
            <button
              key={name}
              type="button"
              className="link"
              onClick={() => {
                if (menu.current !== null) menu.current.open = false;
                // What gets the focus back once the window is closed: the entry is out of sight by then.
                menu.current?.querySelector("summary")?.focus();
                setAction(name);
              }}
            >
              {label}
            </button>
          ))}
        </div>
      </details>
      {action !== null && (
        <Suspense>
          <ActionDialog action={action} agent={agent} onClose={() => setAction(null)} />
        </Suspense>
      )}
    </>
  );
}
