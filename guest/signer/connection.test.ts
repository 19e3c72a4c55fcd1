import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import type { ChainSigner } from './chain-signer.ts';
import { serveConnection, TIMES as USUAL } from './connection.ts';

/** So long that nobody waits for it on a slow machine either. */
const TIMES = { ...USUAL, answer: 120_000 };
const PING = Buffer.from('023a00', 'hex');

/** A signer's end and a node's end of one connection. */
async function pair(): Promise<{ ours: Socket; node: Socket; close: () => void }> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const ours = connect((server.address() as { port: number }).port, '127.0.0.1');
  const [node] = (await once(server, 'connection')) as [Socket];
  for (const socket of [ours, node]) socket.on('error', () => {});
  return { ours, node, close: () => server.close() };
}

function serve(socket: Socket, answer: () => Promise<void>): Promise<void> {
  const signer = {
    options: { protocol: 'v0.38' },
    answer: async () => {
      await answer();
      return { kind: 'ping' };
    },
  } as unknown as ChainSigner;
  const events = { authenticated: () => {}, heard: () => {}, asked: () => {} };
  return serveConnection(socket, { signer, identity: undefined, times: TIMES, events, name: 'n' });
}

test.each(['reset', 'closed'])(
  'a node that has %s the connection while it is answered is not waited for',
  async (how) => {
    const { ours, node, close } = await pair();
    let answers = 0;
    const served = serve(ours, async () => {
      answers += 1;
      if (how === 'reset') node.resetAndDestroy();
      else node.destroy();
      await new Promise((resolve) => setTimeout(resolve, 100));
    });
    node.write(Buffer.concat([PING, PING, PING]));
    const begun = performance.now();
    await served.catch(() => {});
    expect(performance.now() - begun).toBeLessThan(TIMES.answer / 2);
    expect(answers).toBeLessThan(4);
    expect(ours.destroyed).toBe(true);
    close();
  },
);
