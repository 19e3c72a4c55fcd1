/** CAA as two real resolvers show it over HTTPS, and as hostile ones do. */
import { createServer, type Server } from 'node:https';
import packet from 'dns-packet';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { CaaPolicy } from '../../lib/site/caa.ts';
import { newKey, TestAuthority } from '../../test/support/authority.ts';
import { listenOn } from '../../test/support/front.ts';
import { TestResolver } from '../../test/support/resolver.ts';
import { CaaWatch } from './caa.ts';
import { caaOf, resolverAgent } from './doh.ts';

const authority = new TestAuthority();
const account = 'https://ca.example/acct/1234';
const policy: CaaPolicy = { account, issuers: ['ca.example'], methods: ['http-01'] };
const GOOD = ['issue', `ca.example; accounturi=${account}; validationmethods=http-01`] as const;
const BAD = ['issue', 'ca.example'] as const;
const NAMES = ['www.site.example', 'other.example'];

let one: TestResolver;
let two: TestResolver;
let clock: number;
let told: boolean[];
beforeAll(async () => {
  [one, two] = [await TestResolver.start(authority), await TestResolver.start(authority)];
});
beforeEach(async () => {
  clock = 1_000;
  told = [];
  for (const resolver of [one, two]) {
    for (const name of ['www.site.example', 'example']) await resolver.clear(name);
    await resolver.setCaa('site.example', GOOD);
    await resolver.setCaa('other.example', GOOD, ['issuewild', ';']);
    await resolver.fail('www.site.example', false);
  }
});
afterAll(async () => {
  for (const resolver of [one, two]) await resolver.stop();
});

const watch = (resolvers = [one.url, two.url], roots = [authority.pem]) =>
  new CaaWatch({
    domains: NAMES,
    resolvers,
    roots,
    tell: async (hostImpersonable) => void told.push(hostImpersonable),
    monotonic: () => clock,
  });
const lookedAt = async (caa: CaaWatch) => {
  await caa.look(policy);
  return caa.verdict;
};
const FREE = { hostImpersonable: false };
const impersonable = (code: string) => expect.objectContaining({ hostImpersonable: true, code });

describe('two resolvers', () => {
  test('that show the records, of a name or of the one above it, settle it', async () => {
    const caa = watch();
    expect(caa.verdict).toEqual(impersonable('CAA_UNKNOWN'));
    expect(await lookedAt(caa)).toEqual(FREE);
  });

  test('one of which shows something else do not', async () => {
    await two.setCaa('other.example', BAD);
    expect(await lookedAt(watch())).toEqual(impersonable('CAA_ACCOUNT'));
    await two.clear('other.example');
    expect(await lookedAt(watch())).toEqual(impersonable('CAA_MISSING'));
  });

  test('the nearest name counts, whatever those above it have', async () => {
    await one.setCaa('www.site.example', BAD);
    expect(await lookedAt(watch())).toEqual(impersonable('CAA_ACCOUNT'));
    for (const resolver of [one, two]) {
      await resolver.setCaa('www.site.example', GOOD);
      await resolver.setCaa('site.example', BAD);
    }
    expect(await lookedAt(watch())).toEqual(FREE);
    for (const resolver of [one, two]) {
      await resolver.clear('www.site.example');
      await resolver.clear('site.example');
      await resolver.setCaa('example', GOOD);
    }
    expect(await lookedAt(watch())).toEqual(FREE);
  });

  test('one of which fails, is away, or is certified by nobody do not', async () => {
    await two.fail('www.site.example');
    expect(await lookedAt(watch())).toEqual(impersonable('DNS_QUORUM'));
    await two.fail('www.site.example', false);
    expect(await lookedAt(watch([one.url, 'https://localhost:1/dns-query']))).toEqual(
      impersonable('DNS_QUORUM'),
    );
    expect(await lookedAt(watch(undefined, [new TestAuthority().pem]))).toEqual(impersonable('DNS_QUORUM'));
  });

  test('do with a third one away, and do not with one that shows something else', async () => {
    expect(await lookedAt(watch([one.url, 'https://localhost:1/', two.url]))).toEqual(FREE);
    const third = await TestResolver.start(authority);
    try {
      expect(await lookedAt(watch([one.url, two.url, third.url]))).toEqual(impersonable('CAA_MISSING'));
    } finally {
      await third.stop();
    }
  });
});

describe('in time', () => {
  test('an owner who sets the records waits a minute, and one who takes them away five', async () => {
    await one.setCaa('other.example', BAD);
    const caa = watch();
    expect(await lookedAt(caa)).toEqual(impersonable('CAA_ACCOUNT'));
    await one.setCaa('other.example', GOOD);
    clock += 59_999;
    expect((await lookedAt(caa)).hostImpersonable).toBe(true);
    clock += 1;
    expect(await lookedAt(caa)).toEqual(FREE);
    await one.setCaa('other.example', BAD);
    clock += 299_999;
    expect(await lookedAt(caa)).toEqual(FREE);
    clock += 1;
    expect(await lookedAt(caa)).toEqual(impersonable('CAA_ACCOUNT'));
  });

  test('silence changes nothing for a quarter of an hour, and then it is not known', async () => {
    const caa = watch();
    expect(await lookedAt(caa)).toEqual(FREE);
    await two.fail('www.site.example');
    for (let passed = 0; passed < 900_000; passed += 300_000) {
      clock += 300_000;
      expect(await lookedAt(caa)).toEqual(FREE);
    }
    clock += 1;
    expect(caa.verdict).toEqual(impersonable('CAA_UNKNOWN'));
    await two.fail('www.site.example', false);
    clock += 60_000;
    expect(await lookedAt(caa)).toEqual(FREE);
  });

  test('is told when it changes, and once a minute', async () => {
    const caa = watch();
    for (const passed of [0, 30_000, 29_999, 1, 60_000]) {
      clock += passed;
      await caa.look(policy);
    }
    expect(told).toEqual([false, false, false]);
    await caa.look(undefined);
    expect(told.at(-1)).toBe(true);
    expect(await lookedAt(watch([]))).toEqual(impersonable('CAA_RESOLVERS'));
  });

  test('another account is another question, and none is no answer', async () => {
    const caa = watch();
    expect(await lookedAt(caa)).toEqual(FREE);
    await caa.look({ ...policy, account: `${account}5` });
    expect(caa.verdict).toEqual(impersonable('CAA_ACCOUNT'));
    await caa.look(undefined);
    expect(caa.verdict).toEqual(impersonable('CAA_POLICY'));
  });
});

describe('a hostile answer', () => {
  const key = newKey();
  const tls = {
    key: key.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    cert: authority.issue({ key, names: ['localhost'] }),
  };
  const TYPE = { 'content-type': 'application/dns-message' };
  const answer = (changes: object = {}, name = 'site.example'): Buffer =>
    packet.encode({
      type: 'response',
      id: 0,
      flags: 0,
      questions: [{ type: 'CAA', class: 'IN', name }],
      answers: [
        { type: 'CAA', name, data: { flags: 0, tag: GOOD[0], value: GOOD[1], issuerCritical: false } },
      ],
      ...changes,
    });

  let server: Server;
  let resolver: string;
  let reply: { status?: number; headers?: Record<string, string>; body: Buffer; stall?: boolean };
  beforeAll(async () => {
    server = createServer(tls, (request, response) => {
      request.resume();
      response.writeHead(reply.status ?? 200, reply.headers ?? TYPE).write(reply.body);
      if (reply.stall !== true) response.end();
    });
    resolver = `https://localhost:${await listenOn(server)}/`;
  });
  afterAll(() => {
    agent.destroy();
    server.close();
    server.closeAllConnections();
  });
  const agent = resolverAgent([authority.pem]);
  const asked = (name = 'site.example') =>
    caaOf(name, { resolver, agent, signal: AbortSignal.timeout(2_000) });

  /** What takes half a second to read. */
  function pointers(): Buffer {
    const [head, chain] = [answer({ answers: [] }), Buffer.alloc(16_000)];
    // Type NULL (RFC 1035, section 3.3.10) may hold anything: pointers, here, of which each leads to the one before.
    const first = Buffer.from([0, 0, 10, 0, 1, 0, 0, 0, 0, chain.length >> 8, chain.length & 0xff]);
    const start = head.length + first.length;
    for (let at = 0, to = 12; at < chain.length; to = start + at, at += 2)
      chain.writeUInt16BE(0xc000 | to, at);
    const last = 0xc000 | (start + chain.length - 2);
    const record = Buffer.from([last >> 8, last & 0xff, 0, 10, 0, 1, 0, 0, 0, 0, 0, 0]);
    const message = Buffer.concat([head, first, chain, ...Array<Buffer>(4_095).fill(record)]);
    message.writeUInt16BE(4_096, 6);
    return message;
  }

  test('a good one is one, and aliases are followed', async () => {
    reply = { body: answer() };
    expect(await asked()).toEqual([{ flags: 0, tag: GOOD[0], value: GOOD[1] }]);
    const { questions } = { questions: [{ type: 'CAA', class: 'IN', name: 'site.example' }] };
    const alias = { type: 'CNAME', name: 'Site.Example', data: 'host.example' };
    const record = { type: 'CAA', name: 'host.example', data: { flags: 0, tag: 'issue', value: ';' } };
    reply = { body: answer({ questions, answers: [alias, record] }) };
    expect(await asked()).toEqual([{ flags: 0, tag: 'issue', value: ';' }]);
    // In circles.
    reply = {
      body: answer({ answers: [alias, { type: 'CNAME', name: 'host.example', data: 'site.example' }] }),
    };
    await expect(asked()).rejects.toMatchObject({ code: 'DNS_ANSWER' });
    // An authority may follow more of them than are followed here, and find other records than the name above has.
    const aliases = Array.from({ length: 9 }, (_, at) => ({
      type: 'CNAME',
      name: `${at === 0 ? '' : `a${at}.`}site.example`,
      data: `a${at + 1}.site.example`,
    }));
    const far = { ...record, name: 'a9.site.example' };
    reply = { body: answer({ questions, answers: [...aliases, far] }) };
    await expect(asked()).rejects.toMatchObject({ code: 'DNS_ANSWER' });
    // What is of another name counts for nothing.
    reply = { body: answer({ answers: [record] }) };
    expect(await asked()).toEqual([]);
    reply = { body: answer({ flags: 3 }) };
    expect(await asked()).toEqual([]);
  });

  test.each([
    ['no DNS message', Buffer.from('garbage'), 'DNS_ANSWER'],
    ['one that is cut off', answer().subarray(0, 40), 'DNS_ANSWER'],
    [
      'a name that points at itself',
      Buffer.concat([answer().subarray(0, 12), Buffer.from([0xc0, 12, 1, 1, 0, 1])]),
      'DNS_ANSWER',
    ],
    ['4,096 names, each at the end of 8,000 pointers', pointers(), 'DNS_ANSWER'],
    ['a question', answer({ type: 'query' }), 'DNS_ANSWER'],
    ['an answer about another name', answer({}, 'evil.example'), 'DNS_ANSWER'],
    [
      'an answer to another question',
      answer({ questions: [{ type: 'TXT', class: 'IN', name: 'site.example' }] }),
      'DNS_ANSWER',
    ],
    [
      'two questions',
      answer({ questions: Array(2).fill({ type: 'CAA', class: 'IN', name: 'site.example' }) }),
      'DNS_ANSWER',
    ],
    ['one that is truncated', answer({ flags: packet.TRUNCATED_RESPONSE }), 'DNS_ANSWER'],
    ['a refusal', answer({ flags: 5 }), 'DNS_REFUSED'],
    ['a failure', answer({ flags: 2 }), 'DNS_REFUSED'],
    ['too much', Buffer.alloc(70_000), 'DNS_UNREACHABLE'],
  ])('%s: %3$s', async (_, body, code) => {
    reply = { body };
    await expect(asked()).rejects.toMatchObject({ code });
  });

  test('another type, a redirect, an error, and one that does not end', async () => {
    reply = { headers: { 'content-type': 'application/dns-json' }, body: answer() };
    await expect(asked()).rejects.toMatchObject({ code: 'DNS_ANSWER' });
    reply = { status: 302, headers: { ...TYPE, location: one.url }, body: answer() };
    await expect(asked()).rejects.toMatchObject({ code: 'DNS_ANSWER' });
    reply = { status: 500, body: answer() };
    await expect(asked()).rejects.toMatchObject({ code: 'DNS_ANSWER' });
    reply = { body: answer(), stall: true };
    await expect(asked()).rejects.toMatchObject({ code: 'DNS_UNREACHABLE' });
  });
});
