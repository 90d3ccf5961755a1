import type { components } from "../api/schema";
import type { Filter } from "../fleet/filter";
import type { Selection } from "../fleet/selection";

export type MachineType = components["schemas"]["MachineType"];

/** Whom a run is for, as it can be changed while it is made up: those that match, whole sites and single machines,
 * together, but for some; of all these only those that are of the types and of whose facts the filter holds. */
export interface Aim {
  matching: Filter | null;
  sites: readonly string[];
  ids: readonly string[];
  except: readonly string[];
  types: readonly MachineType[];
  filter: string;
}

/** What does not narrow anything. */
const ALL = { types: [], filter: "" };

export function aimOf(on: Selection): Aim {
  return "ids" in on
    ? { matching: null, sites: [], ids: [...on.ids], except: [], ...ALL }
    : { matching: on.matching, sites: [], ids: [], except: [...on.except], ...ALL };
}

/** The only machine that it means, where it names one and nothing else. */
export function onlyOne(aim: Aim): string | undefined {
  return named(aim) === 1 ? aim.ids[0] : undefined;
}

export function meansNobody({ matching, sites, ids }: Aim): boolean {
  return matching === null && sites.length === 0 && ids.length === 0;
}

export function narrowed({ types, filter }: Aim): boolean {
  return types.length > 0 || filter.trim() !== "";
}

/** How many it names one by one, where it means no others and all of them. */
export function named(aim: Aim): number | null {
  return aim.matching === null && aim.sites.length === 0 && !narrowed(aim) ? aim.ids.length : null;
}

/** As a rollout's target takes it. */
export function targetOf({ matching, sites, ids, except, types, filter }: Aim) {
  return {
    include: {
      ...(matching === null ? {} : { matching }),
      ...(sites.length === 0 ? {} : { sites: [...sites] }),
      ...(ids.length === 0 ? {} : { agents: [...ids] }),
      ...(types.length === 0 ? {} : { machine_types: [...types] }),
      ...(filter.trim() === "" ? {} : { filter: filter.trim() }),
    },
    ...(except.length === 0 ? {} : { exclude: { agents: [...except] } }),
  };
}
