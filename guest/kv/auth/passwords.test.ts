import { expect, test } from 'vitest';
import { etcdError } from '../../../lib/etcd/errors.ts';
import { MAX_PASSWORD_BYTES, Passwords } from './passwords.ts';

const passwords = new Passwords(4);

test('a password matches what was kept of it, and no other does', async () => {
  const kept = await passwords.hash('secret');
  expect(kept).toMatch(/^scrypt\$04\$[0-9a-f]{32}\$[0-9a-f]{64}$/);
  expect(await passwords.matches('secret', kept)).toBe(true);
  expect(await passwords.matches('Secret', kept)).toBe(false);
  expect(await passwords.matches('', kept)).toBe(false);
  expect(await passwords.hash('secret')).not.toBe(kept);
});

test('what follows the 72nd byte counts', async () => {
  const long = 'x'.repeat(72);
  const kept = await passwords.hash(`${long}a`);
  expect([await passwords.matches(`${long}a`, kept), await passwords.matches(`${long}b`, kept)]).toEqual([
    true,
    false,
  ]);
});

test('without a user nothing matches, and it takes as long', async () => {
  const slow = new Passwords(12);
  const kept = await slow.hash('secret');
  const timed = async (hash: string | undefined) => {
    const before = performance.now();
    expect(await slow.matches('wrong', hash)).toBe(false);
    return performance.now() - before;
  };
  // Of several, since any of them may have waited for the processor.
  const [known, unknown]: [number[], number[]] = [[], []];
  for (let n = 0; n < 4; n += 1) {
    known.push(await timed(kept));
    unknown.push(await timed(undefined));
  }
  expect(Math.max(...unknown)).toBeGreaterThan(Math.min(...known) / 5);
});

test('parameters of another time are those of what was kept', async () => {
  expect(await passwords.matches('secret', await new Passwords(5).hash('secret'))).toBe(true);
  await expect(passwords.matches('secret', 'bcrypt')).rejects.toThrow('no form that is known');
});

test('one that is too long is neither kept nor looked at', async () => {
  const long = 'x'.repeat(MAX_PASSWORD_BYTES + 1);
  await expect(passwords.hash(long)).rejects.toThrow(etcdError('invalidAuthManagement').message);
  expect(await passwords.matches(long, await passwords.hash('secret'))).toBe(false);
});

test('a crowd is refused before it takes all of the machine, and those who wait are served', async () => {
  const kept = await passwords.hash('secret');
  const crowd = Array.from({ length: 200 }, () =>
    passwords.matches('secret', kept).catch((error: Error) => error.message),
  );
  const answers = await Promise.all(crowd);
  expect(answers.filter((answer) => answer === true)).toHaveLength(66);
  expect(answers.filter((answer) => answer === etcdError('tooManyRequests').message)).toHaveLength(134);
  expect(await passwords.matches('secret', kept)).toBe(true);
});

test('a crowd of one namespace does not keep out another', async () => {
  const kept = await passwords.hash('secret');
  let isOver = false;
  const asker = async () => {
    while (!isOver) {
      await passwords.matches('wrong', kept, 'a/crowd/').catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  const crowd = Array.from({ length: 200 }, asker);
  await new Promise((resolve) => setTimeout(resolve, 20));
  try {
    for (let n = 0; n < 5; n += 1) expect(await passwords.matches('secret', kept, 'a/quiet/')).toBe(true);
  } finally {
    isOver = true;
    await Promise.all(crowd);
  }
});
