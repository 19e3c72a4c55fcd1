/**
 * The last lines of the relay's log, as people read them: time, level, message, then the fields. Bounded in number and size; what
 * goes in has no secrets any more (`redactor`).
 */
import { type LogLine, TEXT_MAX, text } from './state.ts';

/** Lines that are kept. */
const KEPT = 1000;
/** Characters of a line that are looked at. */
const READ = 16 * 1024;
/** What of a longer line's end is not shown: half a secret may be there, which nothing recognises. */
const HALVED = 1024;
const LEVELS: Readonly<Record<number, LogLine['level']>> = {
  20: 'debug',
  30: 'info',
  40: 'warn',
  50: 'error',
};
/** Of every line, and no news. */
const USUAL = new Set(['level', 'time', 'msg', 'service', 'pid', 'hostname']);

export class LogTail {
  readonly #redact: (text: string) => string;
  readonly #lines: LogLine[] = [];
  #n = 0;

  constructor(redact: (text: string) => string) {
    this.#redact = redact;
  }

  /** Takes what a pino logger writes: one JSON object. Anything else is kept as it is. */
  write(line: string): void {
    const read = readLine(line);
    const clean = this.#redact(read.text);
    const shown = text(line.length > READ ? clean.slice(0, -HALVED) : clean, 2 * TEXT_MAX);
    this.#n += 1;
    this.#lines.push({ n: this.#n, at: read.at, level: read.level, text: shown });
    if (this.#lines.length > KEPT) this.#lines.shift();
  }

  /** The number of the newest line; 0 before the first. */
  get last(): number {
    return this.#n;
  }

  /** Lines after that number, oldest first, as far as they are kept. */
  after(n: number): readonly LogLine[] {
    const behind = this.#n - n;
    return behind <= 0 ? [] : this.#lines.slice(-Math.min(behind, KEPT));
  }
}

function readLine(line: string): Pick<LogLine, 'at' | 'level' | 'text'> {
  // Before anything is copied: an error may quote a megabyte.
  const raw = line.slice(0, READ).trimEnd();
  try {
    const fields = JSON.parse(raw) as Record<string, unknown>;
    const { level, time, msg } = fields;
    const others = Object.entries(fields)
      .filter(([name]) => !USUAL.has(name))
      .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
    return {
      at: typeof time === 'number' && Number.isSafeInteger(time) && time >= 0 ? time : Date.now(),
      level: LEVELS[Number(level)] ?? (Number(level) > 50 ? 'error' : 'info'),
      text: [String(msg ?? ''), ...others].join('  '),
    };
  } catch {
    return { at: Date.now(), level: 'info', text: raw };
  }
}
