/** Watches over an HTTP/2 session: one without calls is closed after a while, one whose peer does not answer is ended. */
import type { ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';

export interface SessionTimes {
  /** How often it is looked whether anything came. Milliseconds. */
  readonly quiet: number;
  /** How long a peer that has calls may take to say that it is there. */
  readonly answer: number;
  /** How many times in a row nothing may have come while there is no call. */
  readonly idle: number;
}

const TIMES: SessionTimes = { quiet: 60_000, answer: 20_000, idle: 10 };

export function watchOver(session: ServerHttp2Session, socket: Socket, times: SessionTimes = TIMES): void {
  let calls = 0;
  let idle = 0;
  let seen = 0;
  session.on('stream', (stream) => {
    calls++;
    stream.once('close', () => {
      calls--;
    });
  });
  const ask = (): void => {
    const timer = setTimeout(() => socket.destroy(), times.answer);
    session.ping(() => clearTimeout(timer));
  };
  const look = setInterval(() => {
    const came = socket.bytesRead > seen;
    seen = socket.bytesRead;
    if (session.closed || session.destroyed) return;
    if (came || calls > 0) idle = 0;
    if (came) return;
    if (calls > 0) ask();
    else if (++idle >= times.idle) session.close();
  }, times.quiet).unref();
  session.once('close', () => clearInterval(look));
}
