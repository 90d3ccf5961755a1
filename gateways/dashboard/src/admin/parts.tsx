import type { ReactNode } from "react";
import type { Problem } from "../api/problem";
import { isProblem } from "../api/problem";
import { Button } from "../ui/Button";
import { Copy } from "../ui/Copy";

/** A table in a card, which scrolls by itself where the window is narrow. */
export function Section({ title, heads, children }: { title: string; heads: readonly string[]; children: ReactNode }) {
  return (
    <section className="card" aria-label={title}>
      <header>
        <h2>{title}</h2>
      </header>
      <Table title={title} heads={heads}>
        {children}
      </Table>
    </section>
  );
}

export function Table({ title, heads, children }: { title: string; heads: readonly string[]; children: ReactNode }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls sideways has to be reachable by keyboard
    <div className="scroll-x" tabIndex={0} role="group" aria-label={`${title}, as a table`}>
      <table className="table">
        <thead>
          <tr>
            {heads.map((head) => (
              <th key={head} scope="col">
                {head || <span className="hidden-text">What to do</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

/** What is shown once: it is not kept, and nobody can read it later. */
export function Once({ text, label, children }: { text: string; label: string; children: ReactNode }) {
  return (
    <div className="stack">
      <p>{children}</p>
      <Copy text={text} label={label} />
    </div>
  );
}

/** The key of a request that waits for another person: whoever asked for it is shown it at once. */
export function waitingSecret(error: unknown): string | null {
  if (!isProblem(error, "approval_awaited")) return null;
  return (error.problem as Problem).secret ?? null;
}

export function More({
  of,
}: {
  of: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => unknown };
}) {
  if (!of.hasNextPage) return null;
  return (
    <Button onClick={() => of.fetchNextPage()} busy={of.isFetchingNextPage}>
      More
    </Button>
  );
}
