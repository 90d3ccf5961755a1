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
}

/** Every page: a path (as wouter reads it) and what shows there, loaded when it is first opened. */
export const PAGES: readonly Page[] = [{ path: "/", component: lazy(() => import("../fleet/FleetPage")) }];

/** What the navigation shows, in its order. */
export const ENTRIES: readonly Entry[] = [{ path: "/", label: "Fleet", icon: "▤", needs: "agents.see" }];
