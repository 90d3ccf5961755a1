/** Text of a terminal, as lines of styled pieces: colours and weights are kept (ECMA-48, SGR), all else that steers a
 * terminal is left out. Nothing of it is ever taken for HTML. */
export interface Piece {
  text: string;
  /** Names of classes in output.css; empty for plain text. */
  look: string;
  /** Colours that have no class: of 256, or exact. */
  color?: string;
  background?: string;
}

export interface Line {
  pieces: Piece[];
  stream: string;
}

interface Style {
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
  inverse: boolean;
  fg: string | number | null;
  bg: string | number | null;
}

const PLAIN: Style = { bold: false, dim: false, italic: false, underline: false, inverse: false, fg: null, bg: null };
const STEERING =
  /\x1b\[([0-9;:?<=>!]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[PX^_][^\x1b]*\x1b\\|\x1b[()*+].|\x1b[@-Z\\^_`a-z0-9=>]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g;
const UNFINISHED = /\x1b(?:\[[0-9;:?<=>!]*[ -/]*|\][^\x07\x1b]{0,4096}|[()*+]?)?$/;
const MOST_LINES = 50_000;

/** Reads the output of one command; what comes in pieces is put together. */
export class AnsiReader {
  lines: Line[] = [];
  /** How many lines were let go of at the top, so that the page stays quick. */
  dropped = 0;
  private styles = new Map<string, Style>();
  private held = new Map<string, string>();
  private current: Line | null = null;
  private returned = false;

  /** Take in what a stream wrote.
   *
   * @param text as it came, cut anywhere.
   * @param stream "stdout" or "stderr"; each has a style of its own.
   */
  feed(text: string, stream = "stdout"): void {
    let all = (this.held.get(stream) ?? "") + text;
    const rest = UNFINISHED.exec(all)?.[0] ?? "";
    all = all.slice(0, all.length - rest.length);
    this.held.set(stream, rest);
    let at = 0;
    for (const found of all.matchAll(STEERING)) {
      this.write(all.slice(at, found.index), stream);
      at = found.index + found[0].length;
      if (found[2] === "m") this.styles.set(stream, restyled(this.styles.get(stream) ?? PLAIN, found[1] ?? ""));
    }
    this.write(all.slice(at), stream);
    if (this.lines.length > MOST_LINES) {
      this.dropped += this.lines.length - MOST_LINES;
      this.lines = this.lines.slice(-MOST_LINES);
    }
  }

  private write(text: string, stream: string): void {
    for (const [index, part] of text.split(/(\r\n|\n|\r)/).entries()) {
      if (part === "") continue;
      if (index % 2 === 1) {
        if (part === "\r") this.returned = true;
        else this.end(stream);
        continue;
      }
      if (this.current === null || this.current.stream !== stream) {
        this.current = { pieces: [], stream };
        this.lines.push(this.current);
      } else if (this.returned) {
        // What follows a carriage return is written over the line: a bar of progress.
        this.current.pieces = [];
      }
      this.returned = false;
      this.current.pieces.push(styledPiece(part, this.styles.get(stream) ?? PLAIN));
    }
  }

  private end(stream: string): void {
    if (this.current === null || this.current.stream !== stream) this.lines.push({ pieces: [], stream });
    this.current = null;
    this.returned = false;
  }
}

export function plain(line: Line): string {
  return line.pieces.map((piece) => piece.text).join("");
}

function styledPiece(text: string, style: Style): Piece {
  const [fg, bg] = style.inverse ? [style.bg ?? "inverse", style.fg ?? "inverse"] : [style.fg, style.bg];
  const look: string[] = [];
  const piece: Piece = { text: text.replaceAll("\t", "        "), look: "" };
  if (style.bold) look.push("a-bold");
  if (style.dim) look.push("a-dim");
  if (style.italic) look.push("a-italic");
  if (style.underline) look.push("a-underline");
  if (typeof fg === "number") look.push(`a-fg${fg}`);
  else if (fg === "inverse") look.push("a-fg-inverse");
  else if (fg !== null) piece.color = fg;
  if (typeof bg === "number") look.push(`a-bg${bg}`);
  else if (bg === "inverse") look.push("a-bg-inverse");
  else if (bg !== null) piece.background = bg;
  piece.look = look.join(" ");
  return piece;
}

function restyled(old: Style, parameters: string): Style {
  const style = { ...old };
  const codes = parameters.split(/[;:]/).map(Number);
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at] ?? 0;
    if (code === 0) Object.assign(style, PLAIN);
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 3) style.italic = true;
    else if (code === 4) style.underline = true;
    else if (code === 7) style.inverse = true;
    else if (code === 22) {
      style.bold = false;
      style.dim = false;
    } else if (code === 23) style.italic = false;
    else if (code === 24) style.underline = false;
    else if (code === 27) style.inverse = false;
    else if (code >= 30 && code <= 37) style.fg = code - 30;
    else if (code === 39) style.fg = null;
    else if (code >= 40 && code <= 47) style.bg = code - 40;
    else if (code === 49) style.bg = null;
    else if (code >= 90 && code <= 97) style.fg = code - 82;
    else if (code >= 100 && code <= 107) style.bg = code - 92;
    else if (code === 38 || code === 48) {
      const [color, used] = extended(codes.slice(at + 1));
      if (color !== null) style[code === 38 ? "fg" : "bg"] = color;
      at += used;
    }
  }
  return style;
}

/** A colour of 256, or an exact one, and how many codes it took. */
function extended(codes: number[]): [string | number | null, number] {
  const byte = (value: number | undefined): number => Math.max(0, Math.min(255, value ?? 0));
  if (codes[0] === 2) return [`rgb(${byte(codes[1])} ${byte(codes[2])} ${byte(codes[3])})`, 4];
  if (codes[0] !== 5) return [null, 0];
  const index = byte(codes[1]);
  if (index < 16) return [index, 2];
  if (index >= 232)
    return [
      `rgb(${Array(3)
        .fill(8 + (index - 232) * 10)
        .join(" ")})`,
      2,
    ];
  const level = (step: number): number => (step === 0 ? 0 : 55 + step * 40);
  const cube = index - 16;
  return [`rgb(${level(Math.floor(cube / 36))} ${level(Math.floor(cube / 6) % 6)} ${level(cube % 6)})`, 2];
}
