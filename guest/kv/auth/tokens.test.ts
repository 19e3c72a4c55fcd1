import { expect, test } from 'vitest';
import { TOKEN_LIFETIME, Tokens } from './tokens.ts';

test('a token is its user’s for as long as it is used', () => {
  let now = 0;
  const tokens = new Tokens(() => now);
  const token = tokens.assign('alice');
  now += TOKEN_LIFETIME - 1;
  expect(tokens.userOf(token)).toBe('alice');
  now += TOKEN_LIFETIME - 1;
  expect(tokens.userOf(token)).toBe('alice');
  now += TOKEN_LIFETIME;
  expect(tokens.userOf(token)).toBeUndefined();
  expect(tokens.userOf(token)).toBeUndefined();
});

test('tokens are many, long and different', () => {
  const tokens = new Tokens();
  const all = Array.from({ length: 100 }, () => tokens.assign('alice'));
  expect(new Set(all).size).toBe(100);
  for (const token of all) expect(token).toMatch(/^[\w-]{24}\.\d+$/);
});

test('those of one user end together, and others do not', () => {
  const tokens = new Tokens();
  const [alice, bob] = [tokens.assign('alice'), tokens.assign('bob')];
  tokens.endUser('alice');
  expect([tokens.userOf(alice), tokens.userOf(bob)]).toEqual([undefined, 'bob']);
});

test('one user has 1,000 at most, of which the one unused for longest ends', () => {
  const tokens = new Tokens();
  const bob = tokens.assign('bob');
  const all = Array.from({ length: 1_000 }, () => tokens.assign('alice'));
  expect(tokens.userOf(all[0]!)).toBe('alice');
  const next = tokens.assign('alice');
  expect([all[0]!, all[1]!, all[2]!, next].map((token) => tokens.userOf(token))).toEqual([
    'alice',
    undefined,
    'alice',
    'alice',
  ]);
  expect(tokens.userOf(bob)).toBe('bob');
});
