import { Link } from "wouter";
import { GrantList } from "../admin/Grants";
import { RevokeKey } from "../admin/RevokeKey";
import { api, ask } from "../api/client";
import { useMayEverywhere } from "../api/session";
import { useList } from "../app/list";
import { Fault } from "../ui/Fault";
import { More } from "../ui/More";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";

/** What calls in one's own name. */
export function OwnKeys({ userId }: { userId: string }) {
  const manage = useMayEverywhere()("keys.manage");
  const { pages, items, again } = useList(["own", "keys", userId], ["ApiKey"], (query) =>
    ask(api.GET("/api/v1/api-keys", { params: { query: { ...query, owner_id: userId } } })),
  );
  const open = items.filter((one) => !one.revoked);
  return (
    <section className="card account" aria-label="API keys">
      <header>
        <h2>API keys that speak for you</h2>
      </header>
      <Fault error={pages.error} />
      {pages.isSuccess && open.length === 0 && (
        <p className="muted">
          There is none. Programs call the API with one
          {manage && (
            <>
              , made under <Link href="/admin/keys">Admin, API keys</Link>
            </>
          )}
          .
        </p>
      )}
      {open.length > 0 && (
        <Table title="API keys" heads={["Name", "May", "Last used", "Expires", ...(manage ? [""] : [])]}>
          {open.map((one) => (
            <tr key={one.id}>
              <th scope="row">{one.name}</th>
              <td>
                {one.grants === null ? (
                  <span className="muted">all that you may</span>
                ) : (
                  <GrantList grants={one.grants} none="nothing" />
                )}
              </td>
              <td>
                <Time at={one.last_used_at} />
              </td>
              <td>
                <Time at={one.expires_at} />
              </td>
              {manage && (
                <td>
                  <RevokeKey item={one} onDone={again} />
                </td>
              )}
            </tr>
          ))}
        </Table>
      )}
      <More of={pages} />
    </section>
  );
}
