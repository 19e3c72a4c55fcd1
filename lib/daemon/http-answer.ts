/** The answer of whoever was asked by HTTP (RFC 9110, 9112), who may be hostile: what is none becomes an error, in time. */
import type { ClientRequest, IncomingMessage } from 'node:http';

/** Interim responses (RFC 9110, section 15.2) before an answer: each is work, and there is no end to how many may come. */
const INTERIM_MAX = 8;

/** Something came, which is no answer. */
export class NoAnswer extends Error {}

/** @throws NoAnswer; what Node says of the connection, and the request's signal of the time */
export function answerTo(asked: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    let interim = 0;
    asked
      .on('information', () => {
        interim += 1;
        if (interim > INTERIM_MAX) asked.destroy(new NoAnswer('interim responses without end'));
      })
      .on('response', resolve)
      .on('error', reject)
      // Who is asked may switch protocols of its own accord. If nobody listened, Node would close the connection without a word, and
      // the request's signal would end nothing any more: whoever asked would wait for ever.
      .on('upgrade', (_, socket) => {
        socket.destroy();
        reject(new NoAnswer('another protocol'));
      });
  });
}
