import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useId, useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { useAfterEvents } from "../app/events";
import { Button } from "../ui/Button";
import { Actor } from "../ui/EventLine";
import { Fault } from "../ui/Fault";
import { SureButton } from "../ui/SureButton";
import { Time } from "../ui/Time";

type Note = components["schemas"]["NoteModel"];

const MOST = 10_000;

/** What people want each other to know of the machine. */
export function Notes({ agentId }: { agentId: string }) {
  const may = useMay();
  const client = useQueryClient();
  const key = ["agent-notes", agentId];
  const [writing, setWriting] = useState(false);
  const params = { path: { agent_id: agentId } };
  const notes = useQuery({
    queryKey: key,
    queryFn: () => ask(api.GET("/api/v1/agents/{agent_id}/notes", { params })),
  });
  const renew = (): unknown => client.invalidateQueries({ queryKey: key });
  useAfterEvents(
    (event) => event.agent_id === agentId && (event.type.startsWith("AgentNote") || event.type === "SubjectErased"),
    () => void renew(),
  );
  const write = useChange(
    (text: string) => ask(api.POST("/api/v1/agents/{agent_id}/notes", { params, body: { text } })),
    () => {
      setWriting(false);
      return renew();
    },
  );
  const items = notes.data?.items ?? [];
  return (
    <section className="card" aria-label="Notes">
      <header>
        <h2>Notes</h2>
        <div className="grow" />
        {may("notes.write") && !writing && (
          <Button look="plain tiny" onClick={() => setWriting(true)}>
            Write one
          </Button>
        )}
      </header>
      {writing && (
        <Form
          label="New note"
          text=""
          busy={write.isPending}
          error={write.error}
          onSave={(text) => write.mutate(text)}
          onCancel={() => setWriting(false)}
        />
      )}
      <Fault error={notes.error} retry={() => notes.refetch()} />
      {notes.isSuccess && items.length === 0 && !writing && <p className="muted">Nobody has written one.</p>}
      <ul className="notes">
        {items.map((note) => (
          <Line key={note.id} agentId={agentId} note={note} onChange={renew} />
        ))}
      </ul>
    </section>
  );
}

function Line({ agentId, note, onChange }: { agentId: string; note: Note; onChange: () => unknown }) {
  const may = useMay();
  const [editing, setEditing] = useState(false);
  const params = { path: { agent_id: agentId, note_id: note.id } };
  const change = useChange(
    (text: string) => ask(api.PUT("/api/v1/agents/{agent_id}/notes/{note_id}", { params, body: { text } })),
    () => {
      setEditing(false);
      return onChange();
    },
  );
  const remove = useChange(
    () => ask(api.POST("/api/v1/agents/{agent_id}/notes/{note_id}/remove", { params })),
    onChange,
  );
  if (editing) {
    return (
      <li>
        <Form
          label="Note"
          text={note.text}
          busy={change.isPending}
          error={change.error}
          onSave={(text) => change.mutate(text)}
          onCancel={() => setEditing(false)}
        />
      </li>
    );
  }
  return (
    <li>
      <p className="note-text">{note.text}</p>
      <div className="row muted small">
        <span>
          <Actor actor={note.actor} />, <Time at={note.written_at} />
          {note.changed_by !== null && (
            <>
              ; changed by <Actor actor={note.changed_by} />, <Time at={note.changed_at} />
            </>
          )}
        </span>
        <div className="grow" />
        {may("notes.write") && (
          <>
            <Button look="plain tiny" onClick={() => setEditing(true)}>
              Change
            </Button>
            <SureButton sure="Remove it" busy={remove.isPending} onClick={() => remove.mutate()}>
              Remove
            </SureButton>
          </>
        )}
      </div>
      <Fault error={remove.error} />
    </li>
  );
}

interface FormProps {
  label: string;
  text: string;
  busy: boolean;
  error: unknown;
  onSave: (text: string) => void;
  onCancel: () => void;
}

function Form({ label, text, busy, error, onSave, onCancel }: FormProps) {
  const id = useId();
  const [given, setGiven] = useState(text);
  return (
    <form
      className="stack"
      onSubmit={(event) => {
        event.preventDefault();
        onSave(given);
      }}
    >
      <div className="field">
        <label htmlFor={id}>{label}</label>
        <textarea
          id={id}
          className="input"
          rows={3}
          maxLength={MOST}
          required
          value={given}
          onChange={(event) => setGiven(event.target.value)}
        />
      </div>
      <Fault error={error} />
      <div className="row">
        <Button look="primary" type="submit" busy={busy} disabled={given.trim() === ""}>
          Save
        </Button>
        <Button onClick={onCancel}>Cancel</Button>
      </div>
    </form>
  );
}
