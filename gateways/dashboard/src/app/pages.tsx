import { type ComponentType, type LazyExoticComponent, lazy } from "react";
import type { Permission } from "../api/session";

interface Page {
  path: string;
  component: LazyExoticComponent<ComponentType>;
}

interface Entry {
  path: string;
  label: string;
  icon: string;
  /** Left out for whom the server would refuse all of it. */
  needs: Permission;
  /** Or one of these, where it is several pages in one. */
  or?: readonly Permission[];
}

/** Whether there is anything in it for whom this is asked. */
export function hasUse({ needs, or = [] }: Pick<Entry, "needs" | "or">, may: (one: Permission) => boolean): boolean {
  return [needs, ...or].some(may);
}

/** Every page: a path (as wouter reads it) and what shows there, loaded when it is first opened. */
export const PAGES: readonly Page[] = [
  { path: "/", component: lazy(() => import("../fleet/FleetPage")) },
  { path: "/agents/:id", component: lazy(() => import("../agent/AgentPage")) },
  { path: "/commands", component: lazy(() => import("../commands/CommandsPage")) },
  { path: "/scripts", component: lazy(() => import("../scripts/ScriptsPage")) },
  { path: "/scripts/new", component: lazy(() => import("../scripts/NewScriptPage")) },
  { path: "/scripts/:id", component: lazy(() => import("../scripts/ScriptPage")) },
  { path: "/checks", component: lazy(() => import("../checks/ChecksPage")) },
  { path: "/checks/:id", component: lazy(() => import("../checks/CheckPage")) },
  { path: "/rollouts", component: lazy(() => import("../rollouts/RolloutsPage")) },
  { path: "/rollouts/:id", component: lazy(() => import("../rollouts/RolloutPage")) },
  { path: "/activity/:position?", component: lazy(() => import("../activity/ActivityPage")) },
  { path: "/changes", component: lazy(() => import("../changes/ChangesPage")) },
  { path: "/admin/:tab?", component: lazy(() => import("../admin/AdminPage")) },
  { path: "/approvals", component: lazy(() => import("../approvals/ApprovalsPage")) },
  { path: "/account", component: lazy(() => import("../account/AccountPage")) },
  { path: "/add", component: lazy(() => import("../start/AddPage")) },
];

/** What the palette offers to do, besides going to a page. */
export const ACTIONS: readonly Omit<Entry, "icon">[] = [
  { path: "/add", label: "Add a machine", needs: "enrollment.manage" },
  { path: "/admin/clients", label: "Add or rename a client or site", needs: "sites.manage" },
  { path: "/", label: "Start a rollout: choose machines", needs: "rollouts.start" },
  { path: "/scripts/new", label: "Write a new script", needs: "scripts.manage" },
  { path: "/changes", label: "See what changed between two times", needs: "events.see" },
  { path: "/admin/fields", label: "Define a custom field", needs: "fields.define" },
  { path: "/admin/audit", label: "Take a part of the history out, or prove an event", needs: "events.see" },
  { path: "/?f=status%3Aoffline", label: "Show what is offline", needs: "agents.see" },
  { path: "/?f=failing%3A%3E0", label: "Show where a check fails", needs: "agents.see" },
  { path: "/?f=pending%3A%3E0", label: "Show what something waits for", needs: "agents.see" },
];

/** What the navigation shows, in its order. */
export const ENTRIES: readonly Entry[] = [
  { path: "/", label: "Fleet", icon: "▤", needs: "agents.see" },
  { path: "/checks", label: "Checks", icon: "◎", needs: "checks.see" },
  { path: "/rollouts", label: "Rollouts", icon: "≫", needs: "rollouts.see" },
  { path: "/commands", label: "Commands", icon: "▷", needs: "commands.see" },
  { path: "/scripts", label: "Scripts", icon: "❯", needs: "scripts.see" },
  { path: "/activity", label: "Activity", icon: "≡", needs: "events.see" },
  { path: "/approvals", label: "Approvals", icon: "✓", needs: "approvals.see" },
  {
    path: "/admin",
    label: "Admin",
    icon: "⚙",
    needs: "platform.see",
    or: [
      "clients.see",
      "people.see",
      "roles.see",
      "keys.see",
      "enrollment.see",
      "secrets.see",
      "forwarding.see",
      "events.see",
      "platform.browse",
    ],
  },
];
