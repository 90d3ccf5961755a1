import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { useMenu } from "../ui/menu";
import { toast, toastError } from "../ui/Toasts";

type View = components["schemas"]["ViewModel"];

/** What is kept of the list as it is looked at. */
export interface Look {
  query: string;
  client: string | undefined;
  site: string | undefined;
  sort: string;
  columns: string[];
}

interface Props {
  look: Look;
  onView: (look: Look) => void;
}

const KEY = ["views"];

/** Saved views: one's own, and those that others share; and the one that is looked at, to be saved. */
export function Views({ look, onView }: Props) {
  const client = useQueryClient();
  const may = useMay();
  const menu = useMenu();
  const [open, setOpen] = useState(false);
  const [name, setName] = useState("");
  // Null until it is said: then a view that is saved again stays as it is.
  const [share, setShare] = useState<boolean | null>(null);
  const views = useQuery({
    queryKey: KEY,
    enabled: open,
    queryFn: () => ask(api.GET("/api/v1/views", { params: { query: { limit: 500 } } })),
  });
  const same = views.data?.items.find((one) => one.own && one.name === name.trim());
  const shared = share ?? same?.shared ?? false;
  const again = () => client.invalidateQueries({ queryKey: KEY });
  const save = useChange(
    async () => {
      const body = {
        name,
        query: look.query,
        client_id: look.client ?? null,
        site_id: look.site ?? null,
        sort: look.sort,
        columns: look.columns,
        shared,
      };
      if (same === undefined) return ask(api.POST("/api/v1/views", { body }));
      return ask(api.PUT("/api/v1/views/{view_id}", { params: { path: { view_id: same.id } }, body }));
    },
    () => {
      toast(`Saved as ${name}.`);
      setName("");
      setShare(null);
      return again();
    },
  );
  const remove = useChange(
    (id: string) => ask(api.POST("/api/v1/views/{view_id}/remove", { params: { path: { view_id: id } } })),
    again,
  );
  const show = (view: View): void => {
    if (menu.current !== null) menu.current.open = false;
    onView({
      query: view.query,
      client: view.client_id ?? undefined,
      site: view.site_id ?? undefined,
      sort: view.sort,
      columns: view.columns,
    });
  };
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    save.mutate();
  };
  const items = views.data?.items ?? [];
  return (
    <details className="menu" ref={menu} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary className="button">Views</summary>
      <div className="menu-body views">
        {views.isSuccess && items.length === 0 && <p className="muted">Save what you look at, to come back to it.</p>}
        {items.length > 0 && (
          <ul>
            {items.map((view) => (
              <li key={view.id} className="row">
                <button type="button" className="link grow clip" title={view.query} onClick={() => show(view)}>
                  {view.name}
                </button>
                {view.shared && (
                  <span className="chip" title={`Saved by ${view.actor}`}>
                    shared
                  </span>
                )}
                {(view.own || (view.shared && may("agents.edit"))) && (
                  <Button
                    look="plain tiny"
                    aria-label={`Remove the view ${view.name}`}
                    busy={remove.isPending && remove.variables === view.id}
                    onClick={() => remove.mutate(view.id, { onError: toastError })}
                  >
                    ✕
                  </Button>
                )}
              </li>
            ))}
          </ul>
        )}
        <Fault error={views.error} retry={() => views.refetch()} />
        <form className="stack" onSubmit={submit}>
          <Field
            label="Save this view as"
            required
            maxLength={200}
            value={name}
            onChange={(event) => setName(event.target.value)}
          />
          {may("agents.edit") && (
            <label className="row">
              <input type="checkbox" checked={shared} onChange={(event) => setShare(event.target.checked)} />
              Share it with all who see these machines
            </label>
          )}
          <Fault error={save.error} />
          <Button type="submit" busy={save.isPending} disabled={name.trim() === ""}>
            Save
          </Button>
        </form>
      </div>
    </details>
  );
}
