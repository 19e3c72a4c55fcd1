/** Visitors who ask a website the same thing all the time, on new connections and on kept ones, and what became of it. */
import { Agent, get } from 'node:https';
import type { TLSSocket } from 'node:tls';

interface Answer {
  /** Milliseconds since the load began, when it was asked, and how long it took. */
  readonly at: number;
  readonly took: number;
  readonly connection: 'new' | 'kept';
  /** Of the certificate that the connection began with, hex; empty where none was shown. */
  readonly serial: string;
  /** The body of a 200; what went wrong, otherwise. */
  readonly said: string;
  readonly failed: boolean;
}

export interface Load {
  readonly answers: readonly Answer[];
  /** Asks nothing more, and resolves when the last one was answered. */
  stop(): Promise<readonly Answer[]>;
}

/** Seconds of visitors who wait: a machine on which they become more is asked no more than it can answer. */
const WAITING = 8;

/**
 * @param perSecond requests at most: every second one on a new connection, the others on kept ones; of more than four a second, two are on new ones
 * @param trust by whom the website is certified for that name, PEM; without it any certificate will do
 */
export function constantLoad(
  port: number,
  path: string,
  perSecond: number,
  trust?: { readonly name: string; readonly root: string },
): Load {
  const by = trust === undefined ? { rejectUnauthorized: false } : { servername: trust.name, ca: trust.root };
  const answers: Answer[] = [];
  const open = new Set<Promise<void>>();
  const kept = new Agent({ keepAlive: true, maxSockets: 4, ...by });
  const began = performance.now();
  const newOneIn = Math.max(2, Math.round(perSecond / 2));
  const mostAtOnce = WAITING * perSecond;
  let count = 0;
  const timer = setInterval(() => {
    if (open.size >= mostAtOnce) return;
    const connection = count++ % newOneIn === 0 ? 'new' : 'kept';
    const one = asked(port, path, connection === 'kept' ? kept : false).then((said) => {
      open.delete(one);
      answers.push({ ...said, connection });
    });
    open.add(one);
  }, 1000 / perSecond);

  function asked(port: number, path: string, agent: Agent | false): Promise<Omit<Answer, 'connection'>> {
    const at = performance.now() - began;
    return new Promise((resolve) => {
      let serial = '';
      const end = (said: string, failed: boolean) =>
        resolve({ at, took: performance.now() - began - at, said, failed, serial });
      const options = { host: '127.0.0.1', port, path, ...by, timeout: 180_000, agent };
      const request = get(options, (response) => {
        serial = (response.socket as TLSSocket).getPeerX509Certificate()?.serialNumber ?? '';
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (text: string) => {
          body += text.slice(0, 1000 - body.length);
        });
        response.on('end', () =>
          response.statusCode === 200 ? end(body.trim(), false) : end(`HTTP ${response.statusCode}`, true),
        );
        response.on('error', (error) => end(error.message, true));
      });
      request.on('timeout', () => request.destroy(new Error('no answer in 180 s')));
      request.on('error', (error) => end(error.message, true));
    });
  }

  return {
    answers,
    async stop() {
      clearInterval(timer);
      await Promise.all(open);
      kept.destroy();
      return answers;
    },
  };
}
