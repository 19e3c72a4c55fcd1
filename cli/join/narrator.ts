/** Says what a command waits for: at once when that changes, and now and then while it does not. */

/** One thing that is waited for. `kind` names it; `text` is a whole sentence, whose figures may change. */
export interface Reason {
  readonly kind: string;
  readonly text: string;
}

/** A sentence of the same kind with other figures is repeated after so long, milliseconds. */
const FIGURES_AFTER = 30_000;
/** One that did not change at all, milliseconds. */
const SAME_AFTER = 60_000;

export interface Narrator {
  /** A line of its own, once. */
  say(text: string): void;
  /** All that is waited for now. */
  waitFor(reasons: readonly Reason[]): void;
}

/** @param print takes one line; each begins with the seconds since the narrator was made */
export function narrator(
  print: (line: string) => void,
  now: () => number = () => performance.now(),
): Narrator {
  const started = now();
  const said = new Map<string, { text: string; at: number }>();
  const say = (text: string): void =>
    print(
      `[${Math.round((now() - started) / 1000)
        .toString()
        .padStart(5)} s] ${text}`,
    );
  return {
    say,
    waitFor(reasons) {
      for (const kind of [...said.keys()]) {
        if (!reasons.some((reason) => reason.kind === kind)) said.delete(kind);
      }
      for (const { kind, text } of reasons) {
        const before = said.get(kind);
        const due =
          before === undefined || now() - before.at >= (before.text === text ? SAME_AFTER : FIGURES_AFTER);
        if (!due) continue;
        said.set(kind, { text, at: now() });
        say(before === undefined ? text : `still: ${text}`);
      }
    },
  };
}
