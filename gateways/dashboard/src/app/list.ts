import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useAfterEvents, usePolling } from "./events";

const PAGE = 200;

interface Page<Item> {
  items: Item[];
  next: string | null;
}

/** A list that comes in pages, as it is just now.
 *
 * @param key of the query.
 * @param events are of a type that begins like one of these where the list may have changed.
 * @param read asks for one page.
 * @param limit of one page.
 * @param enabled says whether the person may ask.
 */
export function useList<Item>(
  key: readonly unknown[],
  events: readonly string[],
  read: (query: { limit: number; cursor?: string }) => Promise<Page<Item>>,
  limit = PAGE,
  enabled = true,
) {
  const client = useQueryClient();
  const again = () => client.invalidateQueries({ queryKey: key });
  const pages = useInfiniteQuery({
    queryKey: key,
    enabled,
    refetchInterval: usePolling(),
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page<Item>) => page.next,
    queryFn: ({ pageParam }) => read({ limit, ...(pageParam === null ? {} : { cursor: pageParam }) }),
  });
  useAfterEvents(
    (event) => events.some((one) => event.type.startsWith(one)),
    () => void again(),
  );
  return { pages, again, items: pages.data?.pages.flatMap((page) => page.items) ?? [] };
}
