import type { ReactNode } from "react";
import { Copy } from "./Copy";

/** What is shown once: it is not kept, and nobody can read it later. */
export function Once({ text, label, children }: { text: string; label: string; children: ReactNode }) {
  return (
    <div className="stack">
      <p>{children}</p>
      <Copy text={text} label={label} />
    </div>
  );
}
