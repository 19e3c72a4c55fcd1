/** A log for people: one line each, warnings on standard error. A pino logger fits in its place. */
import type { Log } from '../../daemon/log.ts';
import { print, printError } from '../../daemon/terminal.ts';

/** @param name of the process, before each line */
export function lineLog(name: string): Log {
  const line = (fields: object, message: string): string => {
    const told = Object.entries(fields).map(([field, value]) => `${field}=${String(value)}`);
    return [`${name}:`, message, ...told].join(' ');
  };
  return {
    info: (fields, message) => print(line(fields, message)),
    warn: (fields, message) => printError(line(fields, message)),
  };
}
