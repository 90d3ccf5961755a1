import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useChange } from "../app/change";
import { SureButton } from "../ui/SureButton";
import { toast, toastError } from "../ui/Toasts";

interface Props {
  item: components["schemas"]["ApiKeyModel"];
  onDone: () => unknown;
}

/** Has a key open nothing any more, at the second click. */
export function RevokeKey({ item, onDone }: Props) {
  const path = { key_id: item.id };
  const revoke = useChange(
    () => ask(api.POST("/api/v1/api-keys/{key_id}/revoke", { params: { path }, body: { reason: "" } })),
    () => {
      toast(`${item.name} opens nothing any more.`);
      return onDone();
    },
  );
  return (
    <SureButton
      sure="Revoke: click again"
      busy={revoke.isPending}
      onClick={() => revoke.mutate(undefined, { onError: toastError })}
    >
      Revoke
    </SureButton>
  );
}
