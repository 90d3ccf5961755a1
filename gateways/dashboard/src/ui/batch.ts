import type { StreamParser } from "@codemirror/language";

const WORDS = new Set(
  "call cd choice copy defined del do echo else endlocal equ errorlevel exist exit for geq goto gtr if in leq lss md mkdir move neq not off on pause popd pushd rd ren rmdir set setlocal shift start title type".split(
    " ",
  ),
);

/** What cmd.exe reads: comments, labels, variables, strings and its own words. No package of the editor's has it. */
export const batch: StreamParser<null> = {
  name: "batch",
  startState: () => null,
  token(stream) {
    if (stream.sol()) {
      stream.eatSpace();
      if (stream.match(/@?rem\b.*/i) || stream.match(/::.*/)) return "comment";
      if (stream.match(/:\w+/)) return "def";
    }
    if (stream.eatSpace()) return null;
    if (stream.match(/"[^"]*"?/)) return "string";
    if (stream.match(/%%?~?[a-z0-9]*[a-z0-9](?:%|\b)/i) || stream.match(/%[^%\s]+%/) || stream.match(/![^!\s]+!/)) {
      return "variableName";
    }
    if (stream.match(/\d+\b/)) return "number";
    if (stream.match(/[a-z]\w*/i)) return WORDS.has(stream.current().toLowerCase()) ? "keyword" : null;
    stream.next();
    return null;
  },
};
