import { type Ref, useId, useState } from "react";
import { KEYS } from "./filter";

interface Props {
  ref: Ref<HTMLInputElement>;
  text: string;
  onText: (text: string) => void;
  wrong: string[];
}

/** The box: words and `key:value`, with what it understands below it while it is empty. */
export function SearchBox({ ref, text, onText, wrong }: Props) {
  const [focused, setFocused] = useState(false);
  const id = useId();
  return (
    <div className="search">
      <input
        ref={ref}
        className="input"
        // Of type "search", Escape would not only leave it, but clear it as well.
        type="text"
        inputMode="search"
        placeholder="Search: web-07, os:linux tag:web status:offline pending:>0 seen:<1h"
        aria-label="Search machines"
        aria-describedby={id}
        aria-invalid={wrong.length > 0 || undefined}
        autoComplete="off"
        spellCheck={false}
        value={text}
        onFocus={() => setFocused(true)}
        onBlur={() => setFocused(false)}
        onKeyDown={(event) => event.key === "Escape" && event.currentTarget.blur()}
        onChange={(event) => onText(event.target.value)}
      />
      <div id={id} className="search-more">
        {wrong.map((one) => (
          <div key={one} className="wrong">
            {one}
          </div>
        ))}
        {focused && text === "" && (
          <dl className="search-help">
            {KEYS.map(([key, about]) => (
              <div key={key} className="row">
                <dt>
                  <code>{key}</code>
                </dt>
                <dd className="muted">{about}</dd>
              </div>
            ))}
          </dl>
        )}
      </div>
    </div>
  );
}
