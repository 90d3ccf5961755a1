import { api, ask } from "../api/client";
import { useMay, useMe } from "../api/session";
import { useList } from "./list";

/** As many as the badge counts. */
const MOST = 100;

/** How many requests wait for this person to decide them; those that they made themselves wait for another. */
export function useWaiting(): string | null {
  const may = useMay()("approvals.decide");
  const me = useMe();
  const { items } = useList(
    ["approvals", "badge"],
    ["Approval"],
    (query) => ask(api.GET("/api/v1/approvals", { params: { query: { ...query, state: "waiting" } } })),
    MOST,
    may,
  );
  const count = items.filter((one) => one.user_id === null || one.user_id !== me?.user_id).length;
  if (!may || count === 0) return null;
  return count >= MOST ? `${MOST - 1}+` : String(count);
}

/** How many machines wait for this person to let them in. */
export function useWaitingMachines(): string | null {
  const may = useMay()("enrollment.approve");
  const { items } = useList(
    ["enrollments", "waiting", "count"],
    ["Enrollment"],
    (query) => ask(api.GET("/api/v1/enrollments", { params: { query: { ...query, state: "waiting" } } })),
    MOST,
    may,
  );
  if (items.length === 0) return null;
  return items.length >= MOST ? `${MOST - 1}+` : String(items.length);
}
