import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { toHex, utf8 } from '../encoding.ts';
import { type Contender, conflictKey, rank } from './conflicts.ts';
import { bytesOf, keysFor, recordOf } from './records.fixture.ts';
import { isRevoked, trustOf } from './trust.ts';

const alice = bytesOf('alice');
const mallory = bytesOf('mallory');
const contender = (label: string, change: Partial<Contender> = {}): Contender => ({
  id: bytesOf(label),
  owner: alice,
  timestamp: 1000,
  trust: 1,
  weight: 10,
  ...change,
});
const order = (contenders: readonly Contender[]) => rank(contenders).map(({ id }) => toHex(id));
const named = (...labels: string[]) => labels.map((label) => toHex(bytesOf(label)));

describe('records conflict', () => {
  const key = (change: Parameters<typeof recordOf>[0] = {}, owner?: Uint8Array) =>
    toHex(conflictKey(recordOf(change, undefined, owner)));
  const names = [
    { keys: keysFor('alpha'), ordinal: 1n },
    { keys: keysFor('beta'), ordinal: 2n },
  ];

  test('by names and ordinals, whoever wrote what and when', () => {
    const same = key({ names });
    expect(key({ names: names.toReversed() })).toBe(same);
    expect(key({ names, value: utf8('other'), timestamp: 5, links: [] })).toBe(same);
    expect(key({ names }, mallory)).toBe(same);
    expect(key({ names: names.slice(1) })).not.toBe(same);
    expect(key({ names: [names[0]!, { ...names[1]!, ordinal: 3n }] })).not.toBe(same);
  });

  test('in the shared mode by owner too', () => {
    const same = key({ names, shared: true });
    expect(key({ names, shared: true, timestamp: 5 })).toBe(same);
    expect(key({ names, shared: true }, mallory)).not.toBe(same);
    expect(key({ names })).not.toBe(same);
  });
});

describe('first is', () => {
  test('the trusted one, whatever work the other has', () => {
    const impostor = contender('impostor', { owner: mallory, trust: 0, weight: 1e9 });
    expect(order([impostor, contender('honest')])).toEqual(named('honest', 'impostor'));
  });

  test('of equal trust the heavier one, then the earlier one', () => {
    const heavy = contender('heavy', { owner: mallory, weight: 11, timestamp: 5000 });
    expect(order([contender('light'), heavy])).toEqual(named('heavy', 'light'));
    const later = contender('later', { owner: mallory, timestamp: 1001 });
    expect(order([later, contender('sooner')])).toEqual(named('sooner', 'later'));
  });

  test('of equal weight who came first, also once it has written anew', () => {
    const later = contender('later', { owner: mallory, timestamp: 1001 });
    const anew = contender('anew', { timestamp: 2000 });
    expect(order([later, contender('sooner'), anew])).toEqual(named('anew', 'later'));
    expect(rank([later, contender('sooner'), anew]).map(({ since }) => since)).toEqual([1000, 1001]);
  });

  test('found among however many one owner wrote', () => {
    const old = contender('old');
    const many = Array.from({ length: 200_000 }, (_, weight) => ({ ...old, weight }));
    const all = [...many, contender('new', { timestamp: 2000 })];
    expect(() => rank(all)).not.toThrow();
    const [first, ...others] = rank(all);
    expect(others).toEqual([]);
    expect([toHex(first!.id), first!.weight]).toEqual([...named('new'), 199_999]);
  });

  test('an owner’s newest value, with the weight of the heaviest', () => {
    const own = [
      contender('first', { weight: 100 }),
      contender('second', { timestamp: 2000, weight: 3 }),
      contender('third', { timestamp: 1500, weight: 1 }),
    ];
    const impostor = contender('impostor', { owner: mallory, weight: 50, timestamp: 3000 });
    expect(order([...own, impostor])).toEqual(named('second', 'impostor'));
    expect(rank([...own, impostor])[0]!.weight).toBe(100);
  });

  test('the same, in whatever order they come', () => {
    const some = fc.array(
      fc.record({
        id: fc.nat({ max: 30 }).map((n) => bytesOf(`${n}`)),
        owner: fc.constantFrom(alice, mallory, bytesOf('bob')),
        timestamp: fc.nat({ max: 2 }),
        trust: fc.constantFrom(0, 0.5, 1),
        weight: fc.nat({ max: 2 }),
      }),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(some, fc.nat(), (all, turn) => {
        const each = [...new Map(all.map((one) => [toHex(one.id), one])).values()];
        const at = each.length === 0 ? 0 : turn % each.length;
        expect(order([...each.slice(at), ...each.slice(0, at)].toReversed())).toEqual(order(each));
      }),
    );
  });
});

describe('trust', () => {
  const honest = { isCollider: false, isRevoked: false };
  const suspect = (oracle: Uint8Array) => ({ oracle, subject: bytesOf('it'), opinion: 'suspect' }) as const;
  const oracles = [bytesOf('oracle'), bytesOf('other oracle'), bytesOf('third oracle')];

  test('is the node’s own where no oracle is named, whatever others say', () => {
    expect(trustOf(honest, [suspect(mallory), suspect(oracles[0]!)], [])).toBe(1);
    expect(trustOf({ ...honest, isCollider: true }, [], [])).toBe(0);
  });

  test('is shared by the node and the oracles that the reader names, each once', () => {
    expect(trustOf(honest, [suspect(oracles[0]!), suspect(oracles[0]!)], oracles)).toBe(0.75);
    expect(trustOf(honest, [suspect(mallory)], oracles)).toBe(1);
    expect(trustOf({ ...honest, isCollider: true }, [], oracles)).toBe(0.75);
    expect(trustOf({ ...honest, isCollider: true }, oracles.map(suspect), oracles)).toBe(0);
    expect(trustOf(honest, [suspect(oracles[0]!)], [oracles[0]!, oracles[0]!])).toBe(0.5);
  });

  test('is gone with the certificate', () => {
    expect(trustOf({ ...honest, isRevoked: true }, [], oracles)).toBe(0);
    const revocations = [{ authority: alice, serial: 7n }];
    expect(isRevoked(alice, 7n, revocations)).toBe(true);
    expect(isRevoked(alice, 8n, revocations)).toBe(false);
    expect(isRevoked(mallory, 7n, revocations)).toBe(false);
  });
});
