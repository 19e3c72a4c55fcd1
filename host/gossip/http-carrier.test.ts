import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import fastify from 'fastify';
import { afterEach, expect, test, vi } from 'vitest';
import { openStore, type Store } from '../../lib/framework/store.ts';
import { codeOf, DstackError, Retryable } from '../../lib/protocol/errors.ts';
import { requestKind } from '../relay/kinds/request.ts';
import { type FalsePeer, type Says, startFalsePeer } from './false-peer.fixture.ts';
import { numberOf, someKinds, someRequest } from './gossip.fixture.ts';
import { Gossip, type GossipOptions } from './gossip.ts';
import { HttpCarrier, type HttpCarrierOptions } from './http-carrier.ts';
import type { Message } from './message-kind.ts';

type Admit = (message: Message) => Promise<Message>;

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Host {
  gossip: Gossip;
  url: string;
  said: string[];
  /** Requests that have come to it. */
  asked(): number;
  stop(): Promise<void>;
}

const ofChain1: Admit = async (message) => {
  if (!('chainId' in message) || message.chainId !== 1) {
    throw new DstackError('GOSSIP_OTHER_NETWORK', 'not ours');
  }
  return message;
};

async function startHost(
  peers: string[],
  options: {
    store?: Store;
    port?: number;
    admit?: Admit;
    rate?: HttpCarrierOptions['rate'];
    onRefused?: GossipOptions<unknown>['onRefused'];
  } = {},
): Promise<Host> {
  const said: string[] = [];
  const { store = openStore(':memory:'), admit = ofChain1, rate, onRefused } = options;
  const log = {
    info: (_: object, msg: string) => void said.push(msg),
    warn: (_: object, msg: string) => void said.push(msg),
  };
  const gossip = new Gossip({
    store,
    kinds: someKinds(admit),
    context: () => undefined,
    carriers: [new HttpCarrier({ store, peers, log, ...(rate && { rate }) })],
    log,
    ...(onRefused && { onRefused }),
  });
  const app = fastify();
  app.setErrorHandler((error, _request, reply) =>
    reply
      .status(
        error instanceof Retryable
          ? 503
          : ['GOSSIP_RATE', 'GOSSIP_CREDIT'].includes(codeOf(error))
            ? 429
            : 400,
      )
      .send({ code: codeOf(error) }),
  );
  let asked = 0;
  // Of Fastify's hooks the last one before the answer is made.
  app.addHook('preHandler', async () => {
    asked += 1;
  });
  gossip.routes(app);
  const url = await app.listen({ host: '127.0.0.1', port: options.port ?? 0 });
  gossip.start();
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= gossip.close().then(() => app.close());
    return stopped;
  };
  cleanups.push(stop);
  return { gossip, url, said, asked: () => asked, stop };
}

async function falsePeer(says: Says): Promise<FalsePeer> {
  const peer = await startFalsePeer(says);
  cleanups.push(() => peer.close());
  return peer;
}

const NO_NEWS = { protocol: 2, key: 'ab'.repeat(32), log: '00'.repeat(16), next: 0, ids: [] };

/** A peer that answers as the test says. */
async function startHostile(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanups.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const held = ({ gossip }: Host): number[] =>
  gossip.messages.after(0, 1000).map(({ message }) => numberOf(message));

async function until(holds: () => boolean, seen: () => unknown = () => ''): Promise<void> {
  for (const deadline = Date.now() + 60_000; !holds(); ) {
    if (Date.now() > deadline) throw new Error(`not within 60 s: ${JSON.stringify(seen())}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test('messages flow both ways over one configured direction, and on to third hosts', async () => {
  const a = await startHost([]);
  await a.gossip.publish(someRequest(1));
  const b = await startHost([a.url]);
  const c = await startHost([b.url]);
  await until(() => held(c).length === 1);
  await c.gossip.publish(someRequest(2));
  await until(() => held(a).length === 2);
  expect(held(a)).toEqual([1, 2]);
  expect(b.gossip.peers()).toEqual([{ peer: a.url, reachable: true }]);
});

test("a host that was down gets what was pushed meanwhile, though it can't dial out", async () => {
  const b = await startHost([]);
  const port = Number(new URL(b.url).port);
  await b.stop();
  const a = await startHost([b.url]);
  await a.gossip.publish(someRequest(1));
  await until(() => a.said.some((line) => line.includes('gossip poll failed')));
  const again = await startHost([], { port });
  await until(() => held(again).length === 1);
  // Said once, however often it was tried.
  expect(a.said.filter((line) => line.includes('gossip poll failed'))).toHaveLength(1);
});

test.each(['pushed', 'polled'])(
  "a message that can't be judged yet when it is %s is not lost",
  async (way) => {
    let refusals = 2;
    const admit: Admit = async (message) => {
      refusals -= 1;
      if (refusals >= 0) throw new Retryable('RPC_UNREACHABLE', 'the chain is away');
      return message;
    };
    const receiver = await startHost([], way === 'pushed' ? { admit } : {});
    const other = await startHost([receiver.url], way === 'polled' ? { admit } : {});
    const [from, to] = way === 'pushed' ? [other, receiver] : [receiver, other];
    await from.gossip.publish(someRequest(1));
    await from.gossip.publish(someRequest(2));
    await until(() => held(to).length === 2);
    expect(held(to)).toEqual([1, 2]);
    expect(refusals).toBeLessThan(0);
  },
);

test('a peer that lost its store is read from the beginning', async () => {
  const a = await startHost([]);
  const port = Number(new URL(a.url).port);
  for (const n of [1, 2, 3]) await a.gossip.publish(someRequest(n));
  const store = openStore(':memory:');
  const b = await startHost([a.url], { store });
  await until(() => held(b).length === 3);
  await b.stop();
  await a.stop();
  const fresh = await startHost([], { port });
  await fresh.gossip.publish(someRequest(4));
  const c = await startHost([a.url], { store });
  await until(() => held(c).length === 4);
});

test('bad messages of a peer are left out, one by one; the good ones among them are taken', async () => {
  const refused: string[] = [];
  const bad = [
    { type: 'request' },
    { ...someRequest(4), more: 1 },
    { ...someRequest(5), chainId: 9 },
    JSON.parse('{"type":"request","__proto__":{"type":"answer"},"toString":1}'),
  ];
  const none = [null, 'x'.repeat(1000), [[]], 7];
  const peer = await falsePeer({
    messages: [...bad, someRequest(6)],
    bodies: () => ({
      messages: [...none, ...bad, someRequest(6)].map((message) => ({ message })),
      missing: [],
    }),
  });
  const a = await startHost([peer.url], { onRefused: (code) => refused.push(code) });
  await until(() => held(a).length === 1);
  expect(held(a)).toEqual([6]);
  expect(refused).toEqual([
    'GOSSIP_MALFORMED',
    'GOSSIP_MALFORMED',
    'GOSSIP_OTHER_NETWORK',
    'GOSSIP_MALFORMED',
  ]);
});

test.each<[string, RequestListener]>([
  ['garbage', (_req, res) => void res.end('<html>')],
  ['another form', (_req, res) => void res.end('{"protocol":2,"log":"x","next":-1,"ids":{}}')],
  ['an error', (_req, res) => void res.writeHead(500).end('{}')],
  ['a redirect', (_req, res) => void res.writeHead(302, { location: 'http://127.0.0.1:1/' }).end()],
  ['a broken connection', (req) => void req.socket.destroy()],
  ['more than is read', (_req, res) => void res.end(`"${'x'.repeat(3 * 1024 * 1024)}"`)],
  [
    'too many ids',
    (_req, res) =>
      void res.end(JSON.stringify({ ...NO_NEWS, next: 1, ids: Array(300).fill('00'.repeat(32)) })),
  ],
])('a peer that answers with %s is reported and left alone for longer each time', async (_what, listener) => {
  let asked = 0;
  const url = await startHostile((req, res) => {
    asked += 1;
    listener(req, res);
  });
  const a = await startHost([url]);
  await until(() => a.said.length > 0);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect(a.said).toHaveLength(1);
  expect(asked).toBeLessThan(6);
  expect(held(a)).toEqual([]);
  await a.gossip.publish(someRequest(1));
  expect(held(a)).toEqual([1]);
});

test('an endless peer makes no busy loop', async () => {
  let asked = 0;
  const url = await startHostile((req, res) => {
    if (req.method === 'GET') asked += 1;
    res.setHeader('content-type', 'application/json');
    res.end(JSON.stringify({ ...NO_NEWS, next: asked }));
  });
  await startHost([url]);
  const began = performance.now();
  await until(() => asked > 1);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect(asked / ((performance.now() - began) / 1000)).toBeLessThan(8);
});

test('who pushes too much is told to slow down', async () => {
  const a = await startHost([], { rate: { burst: 3, perSecond: 0 } });
  const push = async (n: number): Promise<number> => {
    const headers = { 'content-type': 'application/json' };
    const reply = await fetch(`${a.url}/v1/gossip`, {
      method: 'POST',
      headers,
      body: JSON.stringify(someRequest(n)),
    });
    return reply.status;
  };
  expect([await push(1), await push(2), await push(3), await push(4)]).toEqual([200, 200, 200, 429]);
  expect(held(a)).toEqual([1, 2, 3]);
});

test('a long poll ends with the next message, and with the process', async () => {
  const a = await startHost([]);
  const query = `log=${a.gossip.messages.identity}&after=0&wait=20`;
  const poll = fetch(`${a.url}/v1/gossip?${query}`).then((reply) => reply.json());
  await until(() => a.asked() === 1);
  await a.gossip.publish(someRequest(1));
  expect(await poll).toMatchObject({ next: 1, messages: [someRequest(1)] });

  const last = fetch(`${a.url}/v1/gossip?log=${a.gossip.messages.identity}&after=1&wait=20`).then((reply) =>
    reply.json(),
  );
  await until(() => a.asked() === 2);
  await a.stop();
  expect(await last).toMatchObject({ next: 1, messages: [] });
});

test("one source's long polls leave room for others': beyond a few they are answered at once", async () => {
  const a = await startHost([]);
  const query = `log=${a.gossip.messages.identity}&after=0&wait=20`;
  const answered: number[] = [];
  const polls = Array.from({ length: 11 }, (_, n) =>
    fetch(`${a.url}/v1/gossip?${query}`).then(async (reply) => {
      await reply.json();
      answered.push(n);
    }),
  );
  await until(() => answered.length >= 3);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(answered).toHaveLength(3);
  await a.gossip.publish(someRequest(1));
  await Promise.all(polls);
});

test('a reply is not longer than a reader who never reads it may cost', async () => {
  const a = await startHost([]);
  for (let n = 1; n <= 30; n += 1) await a.gossip.publish(someRequest(n, 'ff'.repeat(16_000)));
  const reply = await fetch(`${a.url}/v1/gossip`);
  const text = await reply.text();
  expect(text.length).toBeLessThan(600_000);
  const { next, messages } = JSON.parse(text);
  expect(next).toBe(messages.length);
  const b = await startHost([a.url]);
  await until(() => held(b).length === 30);
});

test('what is published again reaches who had lost it, but is not given out again each time', async () => {
  const a = await startHost([]);
  const b = await startHost([a.url]);
  await a.gossip.publish(someRequest(1));
  await until(() => held(b).length === 1);
  b.gossip.messages.forget(requestKind.subjectOf(someRequest(1)));
  expect(held(b)).toEqual([]);
  expect((await a.gossip.publish(someRequest(1))).sequence).toBe(1);
  const later = Date.now() + 31_000;
  const clock = vi.spyOn(Date, 'now').mockImplementation(() => later);
  try {
    expect((await a.gossip.publish(someRequest(1))).sequence).toBe(2);
    expect((await a.gossip.publish(someRequest(1))).sequence).toBe(2);
  } finally {
    clock.mockRestore();
  }
  await until(() => held(b).length === 1);
});
