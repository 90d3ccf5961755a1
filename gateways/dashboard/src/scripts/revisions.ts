import { useInfiniteQuery } from "@tanstack/react-query";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";

export type Revision = components["schemas"]["RevisionModel"];
type Page = components["schemas"]["PageOf_RevisionModel_"];

/** Each holds its code, so that few come at once. */
const PAGE = 50;

/** The revisions of a script, the newest first. */
export function useRevisions(id: string) {
  const pages = useInfiniteQuery({
    queryKey: ["scripts", id, "revisions"],
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page) => page.next,
    queryFn: ({ pageParam }) => {
      const query = { limit: PAGE, ...(pageParam === null ? {} : { cursor: pageParam }) };
      return ask(api.GET("/api/v1/scripts/{script_id}/revisions", { params: { path: { script_id: id }, query } }));
    },
  });
  return { pages, items: pages.data?.pages.flatMap((page) => page.items) ?? [] };
}
