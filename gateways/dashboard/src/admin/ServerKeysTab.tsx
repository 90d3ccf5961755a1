import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMayEverywhere } from "../api/session";
import { useChange } from "../app/change";
import { useAfterEvents, usePolling } from "../app/events";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { FormDialog } from "../ui/FormDialog";
import { figure } from "../ui/figure";
import { Status } from "../ui/Status";
import { Table } from "../ui/Table";
import { toast } from "../ui/Toasts";

type Key = components["schemas"]["ServerKeyModel"];
type Purpose = Key["key"];
type Step = "rotate" | "retire";

const QUERY = ["admin", "server-keys"];
const PURPOSES: readonly [Purpose, string, string][] = [
  ["delivery", "Delivery", "Signs the orders that agents take. They hear of another one with their next hello."],
  ["issuer", "Issuer", "Signs what NATS grants to agents. To change it restarts the server's own NATS for a moment."],
  ["gateway", "Gateway", "Lets gateways and the API into NATS. To change it restarts the server's own NATS."],
  ["system", "System", "Lets gateways hear who connects. To change it restarts the server's own NATS."],
];

/** The server's own keys: which count, who knows them, and how one takes over from another. */
export default function ServerKeysTab() {
  const client = useQueryClient();
  const manage = useMayEverywhere()("server_keys.manage");
  const [step, setStep] = useState<[Step, Purpose] | null>(null);
  const keys = useQuery({
    queryKey: QUERY,
    refetchInterval: usePolling(),
    queryFn: () => ask(api.GET("/api/v1/server-keys")),
  });
  useAfterEvents(
    (event) => event.type.startsWith("ServerKey") || event.type === "AgentServerKeyLearned",
    () => void client.invalidateQueries({ queryKey: QUERY }),
  );
  const items = keys.data?.items ?? [];
  return (
    <>
      <p className="muted">
        Another key is made first, and counts beside the present one; once all who need it know it, the old one is
        ended. Make a backup in between: one from before does not hold the new key.
      </p>
      <Fault error={keys.error} retry={() => keys.refetch()} />
      {keys.isSuccess &&
        PURPOSES.map(([purpose, title, about]) => {
          const own = items.filter((one) => one.key === purpose);
          const counting = own.filter((one) => one.state !== "retired");
          return (
            <section key={purpose} className="card stack" aria-label={title}>
              <header>
                <div>
                  <h2>{title}</h2>
                  <p className="muted small">{about}</p>
                </div>
                {manage &&
                  (counting.length > 1 ? (
                    <Button look="danger" onClick={() => setStep(["retire", purpose])}>
                      End the old one…
                    </Button>
                  ) : (
                    <Button onClick={() => setStep(["rotate", purpose])}>Make another…</Button>
                  ))}
              </header>
              <Table title={`${title} keys`} heads={["Number", "State", "Known by", "Public key"]}>
                {own.map((one) => (
                  <tr key={one.number}>
                    <th scope="row">{one.number}</th>
                    <td>
                      <State of={one.state} />
                    </td>
                    <td className="nowrap">
                      {one.known_by === null ? (
                        <span className="muted">–</span>
                      ) : (
                        `${figure(one.known_by)} of ${figure(one.agents ?? 0)}`
                      )}
                    </td>
                    <td className="breakable">
                      <code>{one.public_key}</code>
                    </td>
                  </tr>
                ))}
              </Table>
            </section>
          );
        })}
      {step !== null && <Confirm step={step[0]} purpose={step[1]} onClose={() => setStep(null)} />}
    </>
  );
}

function State({ of }: { of: string }) {
  const [tone, shape] =
    of === "used"
      ? (["ok", "full"] as const)
      : of === "announced"
        ? (["busy", "half"] as const)
        : (["off", "dash"] as const);
  return (
    <Status tone={tone} shape={shape}>
      {of}
    </Status>
  );
}

function Confirm({ step, purpose, onClose }: { step: Step; purpose: Purpose; onClose: () => void }) {
  const client = useQueryClient();
  const [force, setForce] = useState(false);
  const change = useChange(
    () =>
      step === "rotate"
        ? ask(api.POST("/api/v1/server-keys/rotate", { body: { key: purpose } }))
        : ask(api.POST("/api/v1/server-keys/retire", { body: { key: purpose, force } })),
    (answer) => {
      toast(
        step === "rotate"
          ? `Key ${answer.number} counts beside the one before it.`
          : `Key ${answer.number} is over, and gone.`,
      );
      void client.invalidateQueries({ queryKey: QUERY });
      onClose();
    },
  );
  const nats = purpose !== "delivery";
  return (
    <FormDialog
      title={step === "rotate" ? `Another ${purpose} key` : `End the old ${purpose} key`}
      send={step === "rotate" ? "Make it" : "End it for good"}
      change={change}
      onClose={onClose}
    >
      {step === "rotate" ? (
        <p>It is made on the server and counts beside the present one. Work goes on meanwhile.</p>
      ) : (
        <>
          <p>
            The old key opens and signs nothing any more, and its private half is removed. It is refused while somebody
            who needs the new one does not know it.
          </p>
          <label className="row">
            <input type="checkbox" checked={force} onChange={(event) => setForce(event.target.checked)} />
            All the same, as when the old key has leaked
          </label>
        </>
      )}
      {nats && (
        <p className="muted">
          NATS servers of your own need what <code>fleetlog config nats</code> prints on the server afterwards; those of{" "}
          <code>fleetlog up</code> restart by themselves.
        </p>
      )}
    </FormDialog>
  );
}
