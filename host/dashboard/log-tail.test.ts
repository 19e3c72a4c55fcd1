import { Writable } from 'node:stream';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { LogTail } from './log-tail.ts';
import { redactor, secretsOfUrl } from './redact.ts';
import { TEXT_MAX } from './state.ts';

const KEY = `0x${'5a'.repeat(32)}`;
const RPC = 'https://user:hunter22222@mainnet.example/v3/0123456789abcdef0123?apikey=fedcba9876543210';
const redact = redactor([KEY, ...secretsOfUrl(RPC)]);

test('what a logger writes becomes a line: its message, then its fields', () => {
  const tail = new LogTail((text) => text);
  const lines = new Writable({
    write(chunk, _encoding, done) {
      tail.write(String(chunk));
      done();
    },
  });
  pino({ base: { service: 'relay' } }, lines).warn({ code: 'A', nested: { b: 1 } }, 'something');
  expect(tail.after(0)).toEqual([
    { n: 1, at: expect.any(Number), level: 'warn', text: 'something  code=A  nested={"b":1}' },
  ]);
});

test('a thousand lines are kept, and each is cut', () => {
  const tail = new LogTail((text) => text);
  for (let n = 0; n < 2_500; n += 1)
    tail.write(JSON.stringify({ level: 30, time: n, msg: 'x'.repeat(5_000) }));
  expect(tail.last).toBe(2_500);
  expect(tail.after(0)).toHaveLength(1_000);
  expect(tail.after(2_498).map(({ n }) => n)).toEqual([2_499, 2_500]);
  expect(tail.after(2_500)).toEqual([]);
  expect(tail.after(0)[0]!.text).toHaveLength(2 * TEXT_MAX);
});

test('what is no JSON is shown as it is', () => {
  const tail = new LogTail((text) => text);
  for (const odd of [
    'plain words\n',
    '[]',
    '{"level":"high","time":-1,"msg":{"a":1}}',
    '{"time":1e99}',
    'null',
  ])
    tail.write(odd);
  expect(tail.after(0).map(({ text }) => text)).toEqual(['plain words', '', '[object Object]', '', 'null']);
});

test.each([
  ['the gas key', `key ${KEY}`, KEY],
  ['the gas key without 0x, in capitals', `key ${KEY.slice(2).toUpperCase()}`, KEY.slice(2).toUpperCase()],
  ['an endpoint with its key', `no reply from ${RPC}`, '0123456789abcdef0123'],
  ["an endpoint's query", `no reply from ${RPC}`, 'fedcba9876543210'],
  ['a password in a URL', `no reply from ${RPC}`, 'hunter22222'],
  ["another URL's password", 'http://a:geheim@peer:7610/', 'geheim'],
  ['a token in a query', 'GET /x?access_token=abcdef&y=1', 'abcdef'],
  ['a header', 'authorization: Bearer eyJhbGciOi.J9', 'eyJhbGciOi'],
  ['a field', '{"privateKey":"0x1234","a":1}', '0x1234'],
  ['a PEM', '-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----', 'MIIabc'],
  ['half a PEM', '-----BEGIN EC PRIVATE KEY-----\nMIIabc', 'MIIabc'],
])('a line never shows %s', (_what, said, secret) => {
  const tail = new LogTail(redact);
  tail.write(JSON.stringify({ level: 50, time: 1, msg: said, deep: { deeper: said } }));
  tail.write(said);
  const shown = tail.after(0).map(({ text }) => text);
  for (const text of shown) {
    expect(text).not.toContain(secret);
    expect(text).toContain('[removed]');
  }
});

test('a key is removed before a line is cut, not after', () => {
  const tail = new LogTail(redact);
  tail.write(JSON.stringify({ level: 50, time: 1, msg: `${'x'.repeat(2 * TEXT_MAX - 20)}${KEY}` }));
  expect(tail.after(0)[0]!.text).not.toMatch(/5a5a/);
});

test.each([
  ['of half a key with much behind it', `-----BEGIN PRIVATE KEY-----\nrest${'x '.repeat(6_000)}`],
  ['of a long token', `Bearer ${'a'.repeat(2_500)}rest`],
  ['of a long value in a query', `GET /?token=${'a'.repeat(2_500)}rest`],
  ['of a long password in a URL', `http://u:rest${'a'.repeat(800)}@peer/`],
  ['behind a quote', { password: 'ab"rest' }],
  ['behind a backslash', { password: 'ab\\rest' }],
  ['behind a quote, in JSON in JSON', JSON.stringify({ password: 'ab"rest' })],
  ['of a phrase', { mnemonic: 'abandon ability rest' }],
  ['behind the scheme', 'authorization: Token rest'],
])('a secret is removed to its end: the rest %s', (_what, said) => {
  const tail = new LogTail(redact);
  const fields = typeof said === 'string' ? { msg: said } : { msg: 'x', ...said };
  tail.write(JSON.stringify({ level: 50, time: 1, ...fields }));
  tail.write(JSON.stringify({ level: 50, time: 1, msg: 'x', deep: fields, next: 1 }));
  for (const { text } of tail.after(0)) {
    expect(text).not.toContain('rest');
    expect(text).toContain('[removed]');
  }
  if (typeof said !== 'string') expect(tail.after(1)[0]!.text).toContain('next=1');
});

test('half of a key at the end of what is read of a line is not shown, however short the line becomes', () => {
  const tail = new LogTail(redact);
  const before = `Bearer ${'b'.repeat(2_000)} `.repeat(8);
  tail.write(`${before}${'y'.repeat(16 * 1024 - before.length - 41)} ${KEY}`);
  expect(tail.after(0)[0]!.text).not.toMatch(/5a5a/);
});

test('a megabyte is gone through in less than a second, whatever is in it', () => {
  for (const one of ['-----BEGIN PRIVATE KEY-----', 'Bearer ', 'secret"', '?key', 'a', '\\', ' '])
    for (const text of [one.repeat(1e6 / one.length), `password="${one.repeat(1e6 / one.length)}`]) {
      const before = performance.now();
      redact(text);
      expect(performance.now() - before).toBeLessThan(1_000);
    }
});

test('what is no secret stays', () => {
  const said = `block 12 of https://mainnet.example/v3, request 0x${'ab'.repeat(32)}, networkKey 0x${'cd'.repeat(20)}`;
  expect(redact(said)).toBe(said);
});
