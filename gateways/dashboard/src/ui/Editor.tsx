import { python } from "@codemirror/lang-python";
import { defaultHighlightStyle, HighlightStyle, StreamLanguage, syntaxHighlighting } from "@codemirror/language";
import { powerShell } from "@codemirror/legacy-modes/mode/powershell";
import { shell } from "@codemirror/legacy-modes/mode/shell";
import { MergeView } from "@codemirror/merge";
import { EditorState, type Extension } from "@codemirror/state";
import { EditorView } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { basicSetup } from "codemirror";
import { useEffect, useRef } from "react";
import { batch } from "./batch";

const LANGUAGES: Record<string, Extension> = {
  sh: StreamLanguage.define(shell),
  bash: StreamLanguage.define(shell),
  python: python(),
  cmd: StreamLanguage.define(batch),
  powershell: StreamLanguage.define(powerShell),
};

/** The page's own colours: they follow light and dark by themselves, since custom properties reach into a shadow root. */
const COLOURS = HighlightStyle.define([
  { tag: tags.keyword, color: "var(--busy)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--ok)" },
  { tag: tags.comment, color: "var(--muted)", fontStyle: "italic" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--warn)" },
  { tag: [tags.variableName, tags.propertyName], color: "var(--text)" },
  { tag: [tags.definition(tags.variableName), tags.function(tags.variableName)], color: "var(--bad)" },
]);
const LOOK = EditorView.theme({
  "&": { color: "var(--text)", backgroundColor: "var(--surface)", fontSize: "0.8125rem", height: "100%" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.5" },
  ".cm-gutters": { backgroundColor: "var(--sunken)", color: "var(--muted)", border: "0" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--hover)" },
  "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--accent-soft) !important" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-changedLine": { backgroundColor: "var(--warn-soft) !important" },
  ".cm-panels": { backgroundColor: "var(--raised)", color: "var(--text)" },
});

function extensions(language: string): Extension[] {
  return [
    basicSetup,
    LANGUAGES[language] ?? [],
    syntaxHighlighting(COLOURS),
    syntaxHighlighting(defaultHighlightStyle, { fallback: true }),
    LOOK,
  ];
}

/** A shadow root, since only there does the editor adopt its sheets; in the page it would write style elements, which
 * the policy refuses. */
function shadowOf(host: HTMLElement): ShadowRoot {
  return host.shadowRoot ?? host.attachShadow({ mode: "open" });
}

interface EditorProps {
  label: string;
  /** What it begins with; from then on the editor has the newest. Another `key` begins anew. */
  text: string;
  language: string;
  onText?: (text: string) => void;
}

/** Code to be written, or only read where nobody listens. */
export default function Editor({ label, text, language, onText }: EditorProps) {
  const host = useRef<HTMLDivElement>(null);
  const latest = useRef(onText);
  latest.current = onText;
  const writable = onText !== undefined;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the text only begins it, or begins it in another language
  useEffect(() => {
    if (host.current === null) return;
    const root = shadowOf(host.current);
    const made = new EditorView({
      root,
      parent: root as unknown as Element,
      state: EditorState.create({
        doc: text,
        extensions: [
          ...extensions(language),
          EditorView.contentAttributes.of({ "aria-label": label }),
          EditorState.readOnly.of(!writable),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) latest.current?.(update.state.doc.toString());
          }),
        ],
      }),
    });
    return () => made.destroy();
  }, [language, label, writable]);
  return <div className="editor" ref={host} />;
}

interface DiffProps {
  before: string;
  after: string;
  language: string;
}

/** Two revisions side by side, with what differs marked. */
export function Diff({ before, after, language }: DiffProps) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (host.current === null) return;
    const root = shadowOf(host.current);
    const read = [...extensions(language), EditorState.readOnly.of(true), EditorView.lineWrapping];
    const made = new MergeView({
      a: { doc: before, extensions: [...read, EditorView.contentAttributes.of({ "aria-label": "Before" })] },
      b: { doc: after, extensions: [...read, EditorView.contentAttributes.of({ "aria-label": "After" })] },
      root,
      parent: root,
      collapseUnchanged: { margin: 3, minSize: 6 },
    });
    return () => made.destroy();
  }, [before, after, language]);
  return <div className="editor diff" ref={host} />;
}
