/** What texts may take of a status: of some, it is an app that decides how much there is. */
import { type AppTrouble, appsStatusLimits } from '../../lib/protocol/app-status.ts';

type Logs = Readonly<Record<string, readonly string[]>>;

/** The text of an unforeseen error may contain anything: it stays in the node's log. */
export function shownMessage(code: string, message: string): string {
  return code === 'INTERNAL'
    ? "internal error; see the node's log"
    : message.slice(0, appsStatusLimits.message);
}

/**
 * The last lines that fit, and how many bytes they take.
 * @param room in bytes, besides the bound of one app
 */
export function boundedLogs(logs: Logs, room: number): { logs: AppTrouble['logs']; bytes: number } {
  const most = Math.min(room, appsStatusLimits.logBytes);
  let bytes = 0;
  const kept = Object.entries(logs).map(([name, lines]): [string, string[]] => {
    const fitting: string[] = [];
    for (const line of lines.slice(-appsStatusLimits.logLines).reverse()) {
      const cut = line.slice(0, appsStatusLimits.logLine);
      // As JSON, in which one byte of an app's may become six.
      const size = Buffer.byteLength(JSON.stringify(cut));
      if (bytes + size > most) break;
      bytes += size;
      fitting.unshift(cut);
    }
    return [name, fitting];
  });
  return { logs: Object.fromEntries(kept), bytes };
}
