import { expect, test } from 'vitest';
import { openStore } from '../../lib/framework/store.ts';
import { PeerKeys } from './peer-keys.ts';

function pair(now = () => 1_000_000) {
  const [a, b] = [new PeerKeys(openStore(':memory:'), now), new PeerKeys(openStore(':memory:'), now)];
  a.learn('http://b', b.own);
  b.learn('http://a', a.own);
  return { a, b };
}

test('a request says who makes it, to the one it is made to, once', () => {
  const { a, b } = pair();
  const header = a.header(b.own, 'GET', '/x')!;
  expect(b.peerOf(header, 'GET', '/x')).toBe('http://a');
  expect(b.peerOf(header, 'GET', '/x')).toBeUndefined();
  const other = a.header(b.own, 'GET', '/x')!;
  expect(other).not.toBe(header);
  expect(b.peerOf(other, 'POST', '/x')).toBeUndefined();
  expect(b.peerOf(other, 'GET', '/y')).toBeUndefined();
  // Not shown to its own maker, nor to a third.
  expect(a.peerOf(other, 'GET', '/x')).toBeUndefined();
  const c = new PeerKeys(openStore(':memory:'));
  c.learn('http://a', a.own);
  expect(c.peerOf(other, 'GET', '/x')).toBeUndefined();
  expect(b.peerOf(other, 'GET', '/x')).toBe('http://a');
});

test('requests may overtake each other a little, and none is taken twice however many come', () => {
  const { a, b } = pair();
  const headers = Array.from({ length: 5000 }, () => a.header(b.own, 'GET', '/x')!);
  expect(b.peerOf(headers[1], 'GET', '/x')).toBe('http://a');
  expect(b.peerOf(headers[0], 'GET', '/x')).toBe('http://a');
  for (const header of headers.slice(2)) expect(b.peerOf(header, 'GET', '/x')).toBe('http://a');
  for (const header of headers) expect(b.peerOf(header, 'GET', '/x')).toBeUndefined();
});

test('only keys that a configured URL has shown count; a key is kept across restarts', () => {
  const store = openStore(':memory:');
  const a = new PeerKeys(store);
  expect(new PeerKeys(store).own).toBe(a.own);
  const stranger = new PeerKeys(openStore(':memory:'));
  stranger.learn('http://a', a.own);
  const header = stranger.header(a.own, 'GET', '/x')!;
  expect(a.peerOf(header, 'GET', '/x')).toBeUndefined();
  for (const bad of [undefined, '', 'x', `${stranger.own} 1`, `${'0'.repeat(64)} 1 ${'0'.repeat(64)}`]) {
    expect(a.peerOf(bad, 'GET', '/x')).toBeUndefined();
  }
  // A key of small order has no secret in it.
  a.learn('http://zero', '0'.repeat(64));
  expect(a.header('0'.repeat(64), 'GET', '/x')).toBeUndefined();
});

test('a URL that shows another key than before has that one; a key that two URLs have counts for neither', () => {
  const { a, b } = pair();
  const c = new PeerKeys(openStore(':memory:'));
  c.learn('http://b', b.own);
  expect(b.learn('http://other', a.own)).toBe('http://a');
  expect(b.learn('http://a', a.own)).toBe('http://other');
  expect(b.peerOf(a.header(b.own, 'GET', '/x'), 'GET', '/x')).toBeUndefined();
  expect(b.learn('http://other', c.own)).toBeUndefined();
  expect(b.peerOf(a.header(b.own, 'GET', '/x'), 'GET', '/x')).toBe('http://a');
  expect(b.peerOf(c.header(b.own, 'GET', '/x'), 'GET', '/x')).toBe('http://other');
  b.learn('http://a', new PeerKeys(openStore(':memory:')).own);
  expect(b.peerOf(a.header(b.own, 'GET', '/x'), 'GET', '/x')).toBeUndefined();
});

test('who shows a key proves to whoever asks that it has it; a copy of the key proves nothing', () => {
  const [a, b, thief] = [1, 2, 3].map(() => new PeerKeys(openStore(':memory:'))) as [
    PeerKeys,
    PeerKeys,
    PeerKeys,
  ];
  for (const header of [a.header(undefined, 'GET', '/x'), a.header(b.own, 'GET', '/x')]) {
    const proof = b.proof(header);
    expect(a.isProof(b.own, header, proof)).toBe(true);
    // Of one question alone, to one who asks, by one who answers.
    expect(a.isProof(b.own, a.header(undefined, 'GET', '/x'), proof)).toBe(false);
    expect(a.isProof(b.own, header, thief.proof(header))).toBe(false);
    expect(a.isProof(thief.own, header, proof)).toBe(false);
    expect(a.isProof(b.own, header, undefined)).toBe(false);
    expect(thief.isProof(b.own, header, proof)).toBe(false);
    expect(b.peerOf(header, 'GET', '/x')).toBeUndefined();
  }
  for (const bad of [undefined, '', 'x', `${'0'.repeat(64)} 1 -`]) expect(b.proof(bad)).toBeUndefined();
});
