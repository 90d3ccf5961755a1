import { useQuery, useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
import { Link, useParams } from "wouter";
import { api, ask } from "../api/client";
import { isProblem } from "../api/problem";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { useAfterEvents } from "../app/events";
import { useTitle } from "../app/title";
import { variableLines, variables } from "../run/how";
import { Button } from "../ui/Button";
import { Choice } from "../ui/Choice";
import { Crumbs } from "../ui/Crumbs";
import { Fault } from "../ui/Fault";
import { Time } from "../ui/Time";
import { toast } from "../ui/Toasts";
import { type Content, ContentForm } from "./ContentForm";
import { Folder } from "./Folder";
import { type Kept, saveCode, saveWhole } from "./files";
import { type Revision, useRevisions } from "./revisions";
import { UsedBy } from "./UsedBy";
import "./scripts.css";

const Diff = lazy(async () => ({ default: (await import("../ui/Editor")).Diff }));
const TestRun = lazy(() => import("../run/TestRun"));
const Editor = lazy(() => import("../ui/Editor"));

/** One script: its newest code to go on from, and every revision that ever was. */
export default function ScriptPage() {
  const { id = "" } = useParams<{ id: string }>();
  const client = useQueryClient();
  const may = useMay();
  const path = { script_id: id };
  const [draft, setDraft] = useState<Content | null>(null);
  const [env, setEnv] = useState("");
  const [trying, setTrying] = useState(false);
  const [base, setBase] = useState<number | null>(null);
  const [read, setRead] = useState<number | null>(null);
  const [against, setAgainst] = useState("");
  const script = useQuery({
    queryKey: ["scripts", id],
    queryFn: () => ask(api.GET("/api/v1/scripts/{script_id}", { params: { path } })),
  });
  const { pages: revisions, items: all } = useRevisions(id);
  useAfterEvents(
    (event) => event.stream_id === id,
    () => void client.invalidateQueries({ queryKey: ["scripts", id] }),
    300,
  );
  useTitle(script.data?.name ?? "Script");
  const newest = all[0];
  const save = useChange(
    async () => {
      if (draft === null) throw new Error("There is nothing to save.");
      // Only if nobody has added another revision since this one was begun.
      const header = base === null ? {} : { "If-Match": `"${base}"` };
      return ask(
        api.POST("/api/v1/scripts/{script_id}/revisions", {
          params: { path, header },
          body: { content: { ...draft, env: variables(env) } },
        }),
      );
    },
    async (answer) => {
      setDraft(null);
      setBase(null);
      toast(`Revision ${answer.revision} is there; those before it stay as they are.`);
      await client.invalidateQueries({ queryKey: ["scripts"] });
    },
  );
  const archive = useChange(
    (to: "archive" | "restore") =>
      to === "archive"
        ? ask(api.POST("/api/v1/scripts/{script_id}/archive", { params: { path }, body: {} }))
        : ask(api.POST("/api/v1/scripts/{script_id}/restore", { params: { path }, body: {} })),
    () => client.invalidateQueries({ queryKey: ["scripts"] }),
  );
  if (isProblem(script.error, "not_found")) {
    return (
      <div className="empty">
        <h1>There is no such script</h1>
        <Link href="/scripts" className="button">
          To the scripts
        </Link>
      </div>
    );
  }
  const shown = script.data;
  const one = all.find((revision) => revision.revision === read);
  const kept: Kept | undefined = shown &&
    newest && { name: shown.name, description: shown.description, folder: shown.folder, content: contentOf(newest) };
  const other = against === "" ? (one?.revision ?? 0) - 1 : Number(against);
  const before = one && all.find((revision) => revision.revision === other);
  return (
    <div className="page">
      <header>
        <Crumbs to="/scripts" list="Scripts">
          {shown?.name ?? "…"}
        </Crumbs>
        <div className="grow" />
        {shown?.archived && <span className="chip">archived</span>}
        {newest && may("commands.queue") && may("commands.script") && !shown?.archived && (
          <Button onClick={() => setTrying(true)}>Try it…</Button>
        )}
        {kept && <Export kept={kept} />}
        {shown && may("scripts.manage") && (
          <Button busy={archive.isPending} onClick={() => archive.mutate(shown.archived ? "restore" : "archive")}>
            {shown.archived ? "Restore" : "Archive"}
          </Button>
        )}
        {draft === null && newest && may("scripts.manage") && !shown?.archived && (
          <Button
            look="primary"
            onClick={() => {
              setDraft(contentOf(newest));
              setEnv(variableLines(newest.env));
              setBase(shown?.version ?? null);
              setRead(null);
            }}
          >
            Write the next revision
          </Button>
        )}
      </header>
      {shown?.description && <p className="muted">{shown.description}</p>}
      {shown && <Folder script={shown} />}
      <Fault error={script.error ?? revisions.error ?? save.error ?? archive.error} />
      {draft !== null ? (
        <ContentForm content={draft} onContent={setDraft} env={env} onEnv={setEnv}>
          <div className="row">
            <Button look="primary" busy={save.isPending} onClick={() => save.mutate()}>
              Save as revision {(newest?.revision ?? 0) + 1}
            </Button>
            <Button onClick={() => setDraft(null)}>Discard</Button>
          </div>
        </ContentForm>
      ) : (
        <div className="split">
          <Suspense fallback={<div className="editor" />}>
            {one === undefined ? (
              newest && <Editor key={newest.revision} label="Code" language={newest.shell} text={newest.body} />
            ) : before === undefined ? (
              <Editor key={one.revision} label="Code" language={one.shell} text={one.body} />
            ) : (
              <Diff before={before.body} after={one.body} language={one.shell} />
            )}
          </Suspense>
          <div className="stack">
            <section className="card" aria-label="Revisions">
              <h2>Revisions</h2>
              <ul className="revisions">
                {all.map((revision) => (
                  <li key={revision.revision}>
                    <button
                      type="button"
                      className="chip"
                      aria-pressed={read === revision.revision}
                      onClick={() => setRead(read === revision.revision ? null : revision.revision)}
                    >
                      {revision.revision}
                    </button>
                    <span className="grow muted small">
                      {revision.shell}, {revision.body.split("\n").length} lines
                    </span>
                    <Time at={revision.created_at} />
                  </li>
                ))}
              </ul>
              {revisions.hasNextPage && (
                <Button look="plain tiny" onClick={() => revisions.fetchNextPage()} busy={revisions.isFetchingNextPage}>
                  Earlier
                </Button>
              )}
              {one === undefined ? (
                <p className="muted small">Choose one to see what it changed.</p>
              ) : (
                <Choice label={`Revision ${one.revision}, compared with`} value={against} onChoose={setAgainst}>
                  <option value="">the one before it</option>
                  {all
                    .filter(({ revision }) => revision !== one.revision)
                    .map(({ revision }) => (
                      <option key={revision} value={revision}>
                        revision {revision}
                      </option>
                    ))}
                </Choice>
              )}
            </section>
            <UsedBy scriptId={id} />
          </div>
        </div>
      )}
      {trying && (
        <Suspense>
          <TestRun script={id} onClose={() => setTrying(false)} />
        </Suspense>
      )}
    </div>
  );
}

function Export({ kept }: { kept: Kept }) {
  return (
    <>
      <Button onClick={() => saveWhole(kept)} title="With its arguments, environment and limits, as JSON">
        Export
      </Button>
      <Button onClick={() => saveCode(kept)} title="The newest code alone">
        Code
      </Button>
    </>
  );
}

function contentOf(revision: Revision): Content {
  const { shell, body, args, env, timeout_s, platforms, run_as } = revision;
  return { shell, body, args, env, timeout_s, platforms, run_as };
}
