import type { ReactNode } from "react";

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
    // What scrolls sideways has to be reachable by keyboard.
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
