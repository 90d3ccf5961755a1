import type { Filter } from "../fleet/filter";
import type { Selection } from "../fleet/selection";

/** Whom a run is for, as it can be changed while it is made up: those that match, whole sites and single machines,
 * together, but for some. */
export interface Aim {
  matching: Filter | null;
  sites: readonly string[];
  ids: readonly string[];
  except: readonly string[];
}

export function aimOf(on: Selection): Aim {
  return "ids" in on
    ? { matching: null, sites: [], ids: [...on.ids], except: [] }
    : { matching: on.matching, sites: [], ids: [], except: [...on.except] };
}

/** The only machine that it means, where it names one and nothing else. */
export function onlyOne({ matching, sites, ids }: Aim): string | undefined {
  return matching === null && sites.length === 0 && ids.length === 1 ? ids[0] : undefined;
}

export function meansNobody({ matching, sites, ids }: Aim): boolean {
  return matching === null && sites.length === 0 && ids.length === 0;
}

/** How many it names one by one, where it means no others. */
export function named({ matching, sites, ids }: Aim): number | null {
  return matching === null && sites.length === 0 ? ids.length : null;
}

/** As a rollout's target takes it. */
export function targetOf({ matching, sites, ids, except }: Aim) {
  return {
    include: {
      ...(matching === null ? {} : { matching }),
      ...(sites.length === 0 ? {} : { sites: [...sites] }),
      ...(ids.length === 0 ? {} : { agents: [...ids] }),
    },
    ...(except.length === 0 ? {} : { exclude: { agents: [...except] } }),
  };
}
