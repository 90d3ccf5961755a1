import { useQuery } from "@tanstack/react-query";
import { api, ask } from "../api/client";
import { isProblem } from "../api/problem";
import { useMay } from "../api/session";
import { count, only, type Selection, targetOf } from "../fleet/selection";

/** How many get it now, and how many later. */
export function Reach({ on }: { on: Selection }) {
  const may = useMay();
  const one = only(on);
  const { include, ...rest } = targetOf(on);
  const agent = useQuery({
    queryKey: ["agent", one],
    enabled: one !== undefined,
    queryFn: () => ask(api.GET("/api/v1/agents/{agent_id}", { params: { path: { agent_id: one ?? "" } } })),
  });
  const plan = useQuery({
    queryKey: ["reach", include, rest],
    enabled: one === undefined && may("rollouts.start"),
    queryFn: async () => {
      const count = async (online: boolean | undefined): Promise<number> => {
        const narrowed = online === undefined ? include : { ...include, online };
        const body = { name: "reach", target: { ...rest, include: narrowed }, spec: { kind: "ping" as const } };
        try {
          return (await ask(api.POST("/api/v1/rollouts/plan", { body }))).targeted;
        } catch (error) {
          if (isProblem(error, "rollout_empty")) return 0;
          throw error;
        }
      };
      const [all, now] = await Promise.all([count(undefined), count(true)]);
      return { all, now };
    },
  });
  if (one !== undefined) {
    if (agent.data === undefined) return null;
    return (
      <span className="muted">
        {agent.data.online ? "Online: it begins at once." : "Offline: it waits, and runs when the machine returns."}
      </span>
    );
  }
  if (plan.isError) {
    // So many ask for a fresh proof, for the plan as for the rollout: that is asked for at the click.
    return <span className="muted">Those that are off get it when they return.</span>;
  }
  if (plan.data === undefined)
    return <span className="muted">{plan.isFetching ? "Counting who is online…" : null}</span>;
  const left = count(on) - plan.data.all;
  return (
    <span className="muted">
      {plan.data.now} online now, {plan.data.all - plan.data.now} get it when they return
      {left > 0 && `; ${left} left out (suspended, retired, or not yours)`}.
    </span>
  );
}
