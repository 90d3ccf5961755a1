import { useQuery } from "@tanstack/react-query";

/** As many as the server gives at once. */
const PAGE = 500;
/** So many pages are read; what is beyond them is said to be missing. */
const MOST_PAGES = 20;

interface Page<Item> {
  items: Item[];
  next: string | null;
}

/** All that there is to choose from, page after page.
 *
 * @param key of the query.
 * @param read asks for one page.
 * @param enabled says whether the person may ask.
 * @returns what was read, and whether there is `more` than that.
 */
export function useEvery<Item>(
  key: readonly unknown[],
  read: (query: { limit: number; cursor?: string }) => Promise<Page<Item>>,
  enabled = true,
) {
  const { data, error, isSuccess, refetch } = useQuery({
    queryKey: key,
    enabled,
    queryFn: async () => {
      const items: Item[] = [];
      let next: string | null = null;
      for (let pages = 0; pages < MOST_PAGES; pages += 1) {
        const page: Page<Item> = await read({ limit: PAGE, ...(next === null ? {} : { cursor: next }) });
        items.push(...page.items);
        next = page.next;
        if (next === null) break;
      }
      return { items, more: next !== null };
    },
  });
  return { items: data?.items ?? [], more: data?.more ?? false, error, isSuccess, refetch };
}
