import { lazy, Suspense, useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay, useMayEverywhere } from "../api/session";
import { useList } from "../app/list";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { More } from "../ui/More";
import { Status } from "../ui/Status";
import { Section } from "../ui/Table";
import { Time } from "../ui/Time";
import { usePlaces } from "./choices";

type Machine = components["schemas"]["EnrollmentModel"];

const EraseDialog = lazy(() => import("../app/EraseDialog"));
const STATES = ["refused", "expired"] as const;

/** Machines that were refused, or waited in vain; what they said of themselves is erased here. */
export function TurnedAway() {
  const [erasing, setErasing] = useState<{ machine: Machine; again: () => unknown } | null>(null);
  return (
    <>
      {STATES.map((state) => (
        <Machines key={state} state={state} onErase={(machine, again) => setErasing({ machine, again })} />
      ))}
      {erasing !== null && (
        <Suspense>
          <EraseDialog
            kind="enrollment"
            id={erasing.machine.id}
            name={erasing.machine.hostname}
            onDone={erasing.again}
            onClose={() => setErasing(null)}
          />
        </Suspense>
      )}
    </>
  );
}

interface Props {
  state: (typeof STATES)[number];
  onErase: (machine: Machine, again: () => unknown) => void;
}

function Machines({ state, onErase }: Props) {
  const erase = useMayEverywhere()("personal.erase");
  const places = usePlaces();
  const { pages, items, again } = useList(
    ["enrollments", state],
    ["Enrollment", "SubjectErased"],
    (query) => ask(api.GET("/api/v1/enrollments", { params: { query: { ...query, state } } })),
    50,
    useMay()("enrollment.see"),
  );
  if (items.length === 0 && !pages.error) return null;
  return (
    <>
      <Fault error={pages.error} retry={() => pages.refetch()} />
      <Section
        title={state === "refused" ? "Refused machines" : "Machines that waited in vain"}
        heads={["Host name", "Address", "Key", "Site", "Came", "Ended", ...(erase ? [""] : [])]}
      >
        {items.map((one) => (
          <tr key={one.id}>
            <th scope="row" className="breakable">
              {one.hostname}
            </th>
            <td className="breakable">{one.address}</td>
            <td className="breakable">
              <code>{one.fingerprint}</code>
            </td>
            <td>{places.site(one.site_id)}</td>
            <td>
              <Time at={one.requested_at} />
            </td>
            <td>
              <Time at={one.decided_at} />
            </td>
            {erase && (
              <td>
                {one.erased ? (
                  <Status tone="off" shape="cross">
                    erased
                  </Status>
                ) : (
                  <Button look="danger" aria-label={`Erase ${one.hostname}`} onClick={() => onErase(one, again)}>
                    Erase…
                  </Button>
                )}
              </td>
            )}
          </tr>
        ))}
      </Section>
      <More of={pages} />
    </>
  );
}
