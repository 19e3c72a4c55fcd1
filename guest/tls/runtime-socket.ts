/**
 * HAProxy's runtime API (management guide, section 9.3): a connection for each set of commands, which are text, and so are the
 * answers. Nobody but HAProxy listens there, but what goes in is checked by its callers: a line is a command.
 */
import { connect } from 'node:net';
import { DstackError } from '../../lib/protocol/errors.ts';

const TIMEOUT_MS = 5_000;
const MAX_BYTES = 4 * 1024 * 1024;

/** A command, and the text that it takes after its line, as `set ssl cert` does. */
export interface RuntimeCommand {
  readonly line: string;
  readonly payload?: string;
}

/**
 * The answer to one command.
 * @throws DstackError FRONT_UNREACHABLE while HAProxy is not up, FRONT_COMMAND for what would be more than one command
 */
export function ask(path: string, { line, payload }: RuntimeCommand): Promise<string> {
  // A semicolon or a line's end would start another command, an empty line ends a payload.
  if (!/^[ -:<-~]+$/.test(line) || (payload !== undefined && /\n\s*\n|\r|^\s*$/.test(payload.trimEnd()))) {
    return Promise.reject(new DstackError('FRONT_COMMAND', 'a value for the front is not one line of text'));
  }
  const text = payload === undefined ? `${line}\n` : `${line} <<\n${payload.trimEnd()}\n\n`;
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const chunks: Buffer[] = [];
    let size = 0;
    const fail = (why: string) => {
      socket.destroy();
      // The command's first word alone: what follows may be a key.
      reject(new DstackError('FRONT_UNREACHABLE', `the front at ${path} ${why}`));
    };
    socket.setTimeout(TIMEOUT_MS, () => fail('does not answer'));
    socket.on('error', (cause) => fail(`cannot be reached: ${cause.message}`));
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size > MAX_BYTES) fail('answers without an end');
    });
    socket.on('end', () => resolve(Buffer.concat(chunks).toString('utf8').trim()));
    socket.write(text);
  });
}
