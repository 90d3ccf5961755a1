import { useQuery, useQueryClient } from "@tanstack/react-query";
import { api, ask } from "../api/client";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { Button } from "../ui/Button";
import { toastError } from "../ui/Toasts";

const KEY = ["favourites"];

/** The scripts that the person wants at hand, by their ids. */
export function useFavourites(): ReadonlySet<string> {
  const enabled = useMay()("scripts.see");
  const { data } = useQuery({ queryKey: KEY, enabled, queryFn: () => ask(api.GET("/api/v1/favourites")) });
  return new Set(data?.items);
}

/** Has a script among the favourites, or no longer. */
export function Star({ script, favourite }: { script: { id: string; name: string }; favourite: boolean }) {
  const client = useQueryClient();
  const path = { script_id: script.id };
  const change = useChange(
    () => ask(api.POST("/api/v1/scripts/{script_id}/favourite", { params: { path }, body: { favourite: !favourite } })),
    () => client.invalidateQueries({ queryKey: KEY }),
  );
  return (
    <Button
      look="plain tiny"
      aria-pressed={favourite}
      aria-label={`${script.name} among your favourites`}
      busy={change.isPending}
      onClick={() => change.mutate(undefined, { onError: toastError })}
    >
      {favourite ? "★" : "☆"}
    </Button>
  );
}
