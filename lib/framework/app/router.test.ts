/** The router without a chain: what leads to an answer, to a refusal that is attested, and to none. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Type } from 'typebox';
import { afterEach, beforeEach, expect, test } from 'vitest';
import * as abi from '../../protocol/abi.ts';
import { codeOf, Retryable } from '../../protocol/errors.ts';
import { parseAddress, parseHex } from '../../protocol/hex.ts';
import { check } from '../../protocol/schema.ts';
import { enclaveAt } from '../host/enclave-client.ts';
import { type AppRequest, AttestedSchema, hashOfRequest, kindWord } from './answer.ts';
import { type Answering, type Enclave, Refusal } from './enclave.ts';
import { Router } from './router.ts';
import { memoryBacking, Tables } from './typed-store.ts';

const contract = parseAddress(`0x${'c0'.repeat(20)}`);
const blockHash = parseHex(`0x${'b1'.repeat(32)}`);
const Text = abi.struct({ text: abi.text });
const progress = abi.struct({
  requested: abi.smallUint(48),
  settled: abi.smallUint(48),
  next: abi.fixedBytes(32),
});

const asking = (kind: string, text: string): AppRequest => ({
  sequence: 1,
  kind: kindWord(kind),
  sender: parseAddress(`0x${'5e'.repeat(20)}`),
  data: parseHex(`0x${Text.encode({ text })}`),
});

let next: AppRequest;
let attested: string[];
let seeds: string[];
let said: string[];
let server: Server;
let url: string;
let thrown: unknown;
let router: Router<Enclave>;
let enclave: Enclave;

beforeEach(async () => {
  [attested, seeds, said, thrown] = [[], [], [], undefined];
  const head = {
    number: 7,
    hash: blockHash,
    timestamp: 1,
    proven: { by: 'quorum', agreeing: 1, of: 1 },
  } as const;
  enclave = {
    attestor: {
      attest: async ({ data }) => {
        attested.push(data);
        return { signature: `1b${'11'.repeat(64)}` };
      },
      quote: async () => ({ quote: '' }),
    },
    keys: { key: async () => ({ key: 'ab'.repeat(32) }) },
    store: new Tables(memoryBacking()),
    chain: {
      head: async () => head,
      call: async () => `0x${progress.encode({ requested: 3, settled: 0, next: hashOfRequest(next) })}`,
    },
  };
  const echo: Answering<Enclave, { text: string }, { text: string }> = {
    request: Text,
    response: Text,
    handle: (_, { text }, { seed }) => {
      seeds.push(Buffer.from(seed).toString('hex'));
      if (thrown !== undefined) throw thrown;
      return { text: `${text}!` };
    },
  };
  router = new Router(enclave, { warn: (_, message) => void said.push(message) })
    .answers({ chainId: 1, contract })
    .kind('echo', echo)
    .kind('shown', { ...echo, evidence: Type.Object({ proof: Type.Boolean() }) })
    .route('/v1/open', {
      request: Type.Object({}),
      response: Type.String(),
      open: true,
      handle: () => 'for everybody',
    })
    .route('/v1/double', {
      request: Type.Object({ n: Type.Integer() }),
      response: Type.Object({ n: Type.Integer({ maximum: 100 }) }),
      maxBytes: 100,
      handle: (_, { n }) => {
        if (thrown !== undefined) throw thrown;
        return { n: 2 * n };
      },
    });
  server = await router.listen({ port: 0 });
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => {
  server.close();
  server.closeAllConnections();
});

test('visitors are answered a few at a time, however many ask, and one that never ends gives its place back', async () => {
  const ends: (() => void)[] = [];
  router.route('/v1/slow', {
    request: Type.Object({}),
    response: Type.String(),
    open: true,
    handle: () => new Promise<string>((resolve) => ends.push(() => resolve('at last'))),
  });
  const visitors = await router.listen({ port: 0, isOpen: true });
  try {
    const place = `http://127.0.0.1:${(visitors.address() as AddressInfo).port}`;
    const codes: string[] = [];
    const asked = Array.from({ length: 12 }, () =>
      refusal(enclaveAt(place).request('/v1/slow', {})).then((code) => codes.push(code)),
    );
    await expect.poll(() => codes.length + ends.length).toBe(12);
    expect(codes).toEqual(['BUSY', 'BUSY', 'BUSY', 'BUSY']);
    // Hosts have their own port.
    expect(await enclaveAt(url).request('/v1/open', {})).toBe('for everybody');
    for (const end of ends) end();
    await Promise.all(asked);
    expect(await enclaveAt(place).request('/v1/open', {})).toBe('for everybody');
  } finally {
    visitors.close();
    visitors.closeAllConnections();
  }
});

test('two contracts of one app have not the same chance', async () => {
  const request = asking('echo', 'draw');
  await ask(request);
  for (const domain of [
    { chainId: 1, contract: parseAddress(`0x${'c1'.repeat(20)}`) },
    { chainId: 2, contract },
  ]) {
    const another = new Router(enclave, { warn: () => {} }).answers(domain).kind('echo', {
      request: Text,
      response: Text,
      handle: (_, { text }: { text: string }, { seed }) => {
        seeds.push(Buffer.from(seed).toString('hex'));
        return { text };
      },
    });
    const listening = await another.listen({ port: 0 });
    const place = `http://127.0.0.1:${(listening.address() as AddressInfo).port}`;
    await enclaveAt(place).request('/v1/answer', { request });
    listening.close();
    listening.closeAllConnections();
  }
  expect(new Set(seeds).size).toBe(3);
});

const ask = async (request: AppRequest, evidence?: unknown) => {
  next = request;
  const body = { request, ...(evidence === undefined ? {} : { evidence }) };
  return check(AttestedSchema, await enclaveAt(url).request('/v1/answer', body), 'X', 'the answer');
};
const refusal = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'answered', codeOf);

test('visitors have the open routes, and no turn of the contract', async () => {
  const visitors = await router.listen({ port: 0, isOpen: true });
  try {
    const theirs = enclaveAt(`http://127.0.0.1:${(visitors.address() as AddressInfo).port}`);
    expect(await theirs.request('/v1/open', {})).toBe('for everybody');
    for (const path of ['/v1/answer', '/v1/double'])
      expect(await refusal(theirs.request(path, { n: 1 })), path).toBe('NO_ROUTE');
    expect(await enclaveAt(url).request('/v1/open', {}), 'hosts too').toBe('for everybody');
  } finally {
    visitors.close();
    visitors.closeAllConnections();
  }
});

test('a refusal is attested by its code; whatever else is thrown is no answer, and nothing is attested', async () => {
  const answer = await ask(asking('echo', 'a'));
  expect(Text.decode(answer.response.slice(2), 0)).toEqual({ text: 'a!' });
  expect(answer).toMatchObject({ code: '', blockNumber: 7, blockHash });
  thrown = new Refusal('NO_SUCH', 'no such thing');
  expect(await ask(asking('echo', 'a'))).toMatchObject({ code: 'NO_SUCH', response: '0x' });
  expect(attested).toHaveLength(2);
  for (const [error, code] of [
    [new Retryable('AWAY', 'later'), 'AWAY'],
    [new TypeError('secret words'), 'INTERNAL'],
    [Object.assign(new Error('x'), { code: 'ECONNREFUSED' }), 'INTERNAL'],
  ] as const) {
    thrown = error;
    const asked = ask(asking('echo', 'a'));
    await expect(asked).rejects.toBeInstanceOf(Retryable);
    await expect(asked).rejects.not.toThrow(/secret words/);
    expect(await refusal(asked)).toBe(code);
  }
  expect(attested).toHaveLength(2);
  expect(said).toHaveLength(3);
});

test('whatever is thrown, the caller is told so, and may ask again where it may pass', async () => {
  const call = () => enclaveAt(url, { timeout: 5000 }).request('/v1/double', { n: 1 });
  for (const [error, code] of [
    [null, 'INTERNAL'],
    [Object.create(null), 'INTERNAL'],
    [Symbol('x'), 'INTERNAL'],
    [new Retryable('AWAY', 'x'.repeat(5000)), 'AWAY'],
    [new Retryable('away-for-now', 'later'), 'away-for-now'],
  ] as const) {
    thrown = error;
    expect(await refusal(call())).toBe(code);
    await expect(call()).rejects.toBeInstanceOf(Retryable);
  }
});

test('a handler that does not come to an end is told so, and holds up nobody for longer than it may take', async () => {
  const signals: AbortSignal[] = [];
  const hanging: Answering<Enclave, { text: string }, { text: string }> = {
    request: Text,
    response: Text,
    handle: (_, { text }, { signal }) =>
      text === 'waits'
        ? new Promise(() => signal.addEventListener('abort', () => signals.push(signal)))
        : { text },
  };
  const slow = new Router(enclave, { warn: () => {} })
    .answers({ chainId: 1, contract }, { within: 50 })
    .kind('echo', hanging);
  const other = await slow.listen({ port: 0 });
  url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
  try {
    const asked = ask(asking('echo', 'waits'));
    await expect(asked).rejects.toBeInstanceOf(Retryable);
    expect(await refusal(asked)).toBe('OVERDUE');
    expect(signals[0]?.aborted).toBe(true);
    expect(await ask(asking('echo', 'a'))).toMatchObject({ code: '' });
  } finally {
    other.close();
    other.closeAllConnections();
  }
});

test('no more wait for their turn than there is room for, even if their callers are gone', async () => {
  let open = () => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  const [head, { head: at }] = [enclave.chain.head, enclave.chain];
  Object.assign(enclave.chain, { head: () => gate.then(at) });
  next = asking('echo', 'a');
  const body = JSON.stringify({ request: next });
  const headers = { 'content-type': 'application/json' };
  let busy = 0;
  /** Requests whose bodies have been read. */
  let read = 0;
  server.on('request', (request) => request.on('end', () => (read += 1)));
  for (let batch = 0; batch < 4; batch += 1) {
    const gone = new AbortController();
    const calls = Array.from({ length: 16 }, () =>
      fetch(`${url}/v1/answer`, { method: 'POST', headers, body, signal: gone.signal }).then(
        async (reply) => {
          if (((await reply.json()) as { code?: string }).code === 'BUSY') busy += 1;
        },
        () => {},
      ),
    );
    await expect.poll(() => read).toBe(16 * (batch + 1));
    // Those beyond the room are answered; of the others nothing is to be seen.
    await expect.poll(() => busy).toBe(16 * Math.max(0, batch - 1));
    gone.abort();
    await Promise.all(calls);
  }
  expect(busy).toBe(32);
  Object.assign(enclave.chain, { head });
  open();
  await expect.poll(() => refusal(ask(asking('echo', 'a')))).toBe('answered');
});

test('what anybody can send is refused for good: data of another form, a kind without a handler', async () => {
  expect(await ask({ ...asking('echo', 'a'), data: parseHex('0x1234') })).toMatchObject({
    code: 'DATA_INVALID',
  });
  expect(await ask(asking('unheard-of', 'a'))).toMatchObject({ code: 'KIND_UNKNOWN' });
  expect(await ask({ ...asking('echo', 'a'), kind: parseHex(`0x${'ff'.repeat(32)}`) })).toMatchObject({
    code: 'KIND_UNKNOWN',
  });
});

test('evidence that is missing or of another form is no reason to refuse for good', async () => {
  expect(await refusal(ask(asking('shown', 'a')))).toBe('EVIDENCE_INVALID');
  expect(await refusal(ask(asking('shown', 'a'), { proof: 1 }))).toBe('EVIDENCE_INVALID');
  expect(attested).toHaveLength(0);
  expect(await ask(asking('shown', 'a'), { proof: true })).toMatchObject({ code: '' });
});

test('the seed is the same for the same request, and another for another', async () => {
  for (const text of ['a', 'a', 'b']) await ask(asking('echo', text));
  expect(seeds[1]).toBe(seeds[0]);
  expect(seeds[2]).not.toBe(seeds[0]);
});

test('a route has its schemas, its bound and its codes', async () => {
  const call = (body: unknown) => enclaveAt(url).request('/v1/double', body);
  expect(await call({ n: 4 })).toEqual({ n: 8 });
  expect(await refusal(call({ n: 'x' }))).toBe('BAD_REQUEST');
  expect(await refusal(call({ n: 51 }))).toBe('BAD_RESPONSE');
  expect(await refusal(call({ n: 1, pad: 'x'.repeat(200) }))).toBe('BODY_TOO_LARGE');
  expect(await refusal(enclaveAt(url).request('/v1/none', {}))).toBe('NO_ROUTE');
  thrown = new Refusal('NOT_THAT', 'not that one');
  expect(await refusal(call({ n: 1 }))).toBe('NOT_THAT');
  await expect(call({ n: 1 })).rejects.not.toBeInstanceOf(Retryable);
  expect(() => router.kind('echo', {} as never)).toThrow(/already/);
  expect(() => router.kind('No Kind', {} as never)).toThrow(/no kind/);
  expect(() => router.answers({ chainId: 1, contract })).toThrow(/already/);
});
