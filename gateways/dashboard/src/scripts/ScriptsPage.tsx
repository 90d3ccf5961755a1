import { useState } from "react";
import { Link } from "wouter";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useList } from "../app/list";
import { useTitle } from "../app/title";
import { Fault } from "../ui/Fault";
import { More } from "../ui/More";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";
import { Star, useFavourites } from "./favourites";

type Script = components["schemas"]["ScriptModel"];

/** The library: code in revisions that never change. */
export default function ScriptsPage() {
  useTitle("Scripts");
  const may = useMay();
  const [wanted, setWanted] = useState("");
  const [archived, setArchived] = useState(false);
  const [mine, setMine] = useState(false);
  const [folder, setFolder] = useState<string | null>(null);
  const { pages, items } = useList(["scripts", "list", archived], ["Script"], (query) =>
    ask(api.GET("/api/v1/scripts", { params: { query: { ...query, archived } } })),
  );
  const favourites = useFavourites();
  const folders = [...new Set(items.map((one) => one.folder))].filter((one) => one !== "").sort();
  const shown = items.filter(
    (one) =>
      (!mine || favourites.has(one.id)) &&
      (folder === null || one.folder === folder || one.folder.startsWith(`${folder}/`)) &&
      `${one.name} ${one.description} ${one.folder}`.toLowerCase().includes(wanted.toLowerCase()),
  );
  return (
    <div className="page">
      <header>
        <h1>Scripts</h1>
        <div className="grow" />
        {may("scripts.manage") && (
          <Link href="/scripts/new" className="button primary">
            New script
          </Link>
        )}
      </header>
      <div className="row wrap">
        <input
          className="input grow"
          type="search"
          placeholder="Search by name or description"
          aria-label="Search scripts"
          value={wanted}
          onChange={(event) => setWanted(event.target.value)}
        />
        <button type="button" className="chip" aria-pressed={mine} onClick={() => setMine(!mine)}>
          ★ favourites
        </button>
        <button type="button" className="chip" aria-pressed={archived} onClick={() => setArchived(!archived)}>
          archived
        </button>
      </div>
      {folders.length > 0 && (
        <div className="row wrap" role="group" aria-label="Folders">
          {folders.map((one) => (
            <button
              key={one}
              type="button"
              className="chip"
              aria-pressed={folder === one}
              onClick={() => setFolder(folder === one ? null : one)}
            >
              {one}
            </button>
          ))}
        </div>
      )}
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && shown.length === 0 ? (
        <div className="empty">
          <h2>{items.length > 0 ? "No script fits" : archived ? "Nothing is archived" : "There is no script yet"}</h2>
          {items.length === 0 && !archived && (
            <p>A script is code that is kept, in revisions that never change: what ran a year ago can still be read.</p>
          )}
          {items.length === 0 && !archived && may("scripts.manage") && (
            <Link href="/scripts/new" className="button primary">
              Write the first one
            </Link>
          )}
        </div>
      ) : (
        <div className="card">
          <Table title="Scripts" heads={["", "Name", "Folder", "Shell", "Platforms", "Revision", "Changed"]}>
            {shown.map((one) => (
              <Row key={one.id} script={one} favourite={favourites.has(one.id)} />
            ))}
          </Table>
        </div>
      )}
      <More of={pages} />
    </div>
  );
}

function Row({ script, favourite }: { script: Script; favourite: boolean }) {
  return (
    <tr>
      <td>
        <Star script={script} favourite={favourite} />
      </td>
      <th scope="row">
        <Link href={`/scripts/${script.id}`} className="strong">
          {script.name}
        </Link>
        {script.description && <div className="muted small">{script.description}</div>}
      </th>
      <td>{script.folder || <span className="muted">none</span>}</td>
      <td>{script.shell}</td>
      <td>{script.platforms.length === 0 ? <span className="muted">all</span> : script.platforms.join(", ")}</td>
      <td>{script.revision}</td>
      <td>
        <Time at={script.changed_at} />
      </td>
    </tr>
  );
}
