import { useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
import type { components } from "../api/schema";
import { useMayEverywhere } from "../api/session";
import { Button } from "../ui/Button";

const EraseDialog = lazy(() => import("../app/EraseDialog"));

/** Offers to erase what a retired machine told of itself, to whom may. */
export function Erase({ agent }: { agent: components["schemas"]["AgentDetailModel"] }) {
  const client = useQueryClient();
  const may = useMayEverywhere()("personal.erase");
  // Kept as it was when it was opened: the answer is still to be read when the name is gone.
  const [erasing, setErasing] = useState<string | null>(null);
  return (
    <>
      {may && agent.state === "retired" && !agent.erased && (
        <Button look="danger" onClick={() => setErasing(agent.name)}>
          Erase…
        </Button>
      )}
      {erasing !== null && (
        <Suspense>
          <EraseDialog
            kind="agent"
            id={agent.id}
            name={erasing}
            onDone={() => {
              for (const queryKey of [["agent", agent.id], ["filled", agent.id], ["agents"]])
                void client.invalidateQueries({ queryKey });
            }}
            onClose={() => setErasing(null)}
          />
        </Suspense>
      )}
    </>
  );
}
