import { useEffect, useState } from "react";
import { follow } from "../api/stream";
import type { CommandState } from "../ui/Status";
import { AnsiReader } from "./ansi";

interface OutputPiece {
  attempt: number;
  stream: string;
  offset: number;
  data: string;
}

export interface Live {
  state: CommandState | null;
  attempt: number;
  ended: boolean;
  reader: AnsiReader;
  /** Whether something was lost on the way: the whole is there once it has ended. */
  holes: boolean;
  received: Record<string, number>;
  /** Grows with each change of what is shown. */
  version: number;
}

const SHOW_MS = 80;

function fresh(): Live {
  return { state: null, attempt: 1, ended: false, reader: new AnsiReader(), holes: false, received: {}, version: 0 };
}

/** A command as it happens: its state, and what it prints, put in order again.
 *
 * @param commandId which; null follows nothing.
 */
export function useLive(commandId: string | null): Live {
  const [live, setLive] = useState(fresh);
  useEffect(() => {
    if (commandId === null) return;
    const control = new AbortController();
    let now = fresh();
    let decoders = new Map<string, TextDecoder>();
    let timer: ReturnType<typeof setTimeout> | null = null;
    setLive(now);
    const show = (): void => {
      timer ??= setTimeout(() => {
        timer = null;
        now = { ...now, version: now.version + 1 };
        setLive(now);
      }, SHOW_MS);
    };
    const take = (piece: OutputPiece): void => {
      if (piece.attempt < now.attempt) return;
      if (piece.attempt > now.attempt) {
        now = { ...fresh(), state: now.state, attempt: piece.attempt, version: now.version };
        decoders = new Map();
      }
      const bytes = Uint8Array.from(atob(piece.data), (one) => one.charCodeAt(0));
      const have = now.received[piece.stream] ?? 0;
      const skip = have - piece.offset;
      if (skip >= bytes.length) return; // it came twice
      if (skip < 0) {
        now.holes = true;
        now.reader.feed(`\n… ${-skip} bytes are not here yet …\n`, piece.stream);
      }
      const decoder = decoders.get(piece.stream) ?? new TextDecoder();
      decoders.set(piece.stream, decoder);
      now.reader.feed(decoder.decode(bytes.subarray(Math.max(0, skip)), { stream: true }), piece.stream);
      now.received = { ...now.received, [piece.stream]: piece.offset + bytes.length };
    };
    void follow(
      `/api/v1/commands/${commandId}/live`,
      () => null,
      (data, name) => {
        const told = JSON.parse(data);
        if (name === "output") take(told as OutputPiece);
        else if (name === "state" || name === "end") {
          const attempt = (told.attempt as number | undefined) ?? now.attempt;
          if (attempt > now.attempt) {
            now = { ...fresh(), attempt, version: now.version };
            decoders = new Map();
          }
          now = { ...now, state: told.state as CommandState, ended: name === "end" };
        }
        show();
        return name !== "end";
      },
      control.signal,
    );
    return () => {
      control.abort();
      if (timer !== null) clearTimeout(timer);
    };
  }, [commandId]);
  return live;
}
