import { expect, test } from 'vitest';
import { APP_DOMAINS } from '../../lib/protocol/sockets.ts';
import { type Claims, type Holder, holdersOf } from './domains.ts';

/** An app that runs what is in force, which names these domains. */
const app = (name: string, ...domains: string[]): Claims => ({ name, inForce: domains, serving: domains });
/** One of which the host has delivered nothing. */
const away = (name: string): Claims => ({ name, inForce: undefined, serving: undefined });

/** By domain, as text: its app, and whom that waits for. */
function held(apps: Claims[], before: Record<string, Holder> = {}): Record<string, string> {
  const holders = holdersOf(apps, new Map(Object.entries(before)));
  return Object.fromEntries(
    [...holders].map(([domain, { app, unless }]) => [domain, unless ? `${app} unless ${unless}` : app]),
  );
}

test('of two apps with one domain the first in the contract has it, whoever started first', () => {
  const [one, two] = [app('one', 'a.example', 'b.example'), app('two', 'b.example', 'c.example')];
  expect(held([one, two])).toEqual({ 'a.example': 'one', 'b.example': 'one', 'c.example': 'two' });
  expect(held([two, one])['b.example']).toBe('two');
  const waiting = { ...one, serving: undefined };
  expect(held([waiting, two], { 'b.example': { app: 'two' } })['b.example']).toBe('one');
});

test("a host that holds back an app's manifest gives its domains to no later one", () => {
  const late = app('late', 'a.example');
  expect(held([away('early'), late])).toEqual({ 'a.example': 'late unless early' });
  expect(held([late, away('later still')])).toEqual({ 'a.example': 'late' });
  // Not even by waiting for the next look.
  const before = { 'a.example': { app: 'late', unless: 'early' } };
  expect(held([away('early'), late], before)).toEqual({ 'a.example': 'late unless early' });
});

test('what an app has it keeps while the manifest of another is away', () => {
  const late = app('late', 'a.example');
  expect(held([away('early'), late], { 'a.example': { app: 'late' } })).toEqual({ 'a.example': 'late' });
  const changing = { name: 'early', inForce: undefined, serving: ['b.example'] };
  expect(held([changing, late])).toEqual({ 'b.example': 'early', 'a.example': 'late' });
});

test('a domain that the next version does not name is its until that runs, unless another names it', () => {
  const leaving = { name: 'one', inForce: [], serving: ['a.example'] };
  expect(held([leaving])).toEqual({ 'a.example': 'one' });
  expect(held([leaving, app('two', 'a.example')])).toEqual({ 'a.example': 'two' });
});

test('there is room for so many, in the order of the contract', () => {
  const many = Array.from({ length: APP_DOMAINS }, (_, index) => `s${index}.example`);
  const found = held([app('many', ...many), app('late', 'late.example')]);
  expect(Object.keys(found)).toEqual(many);
});
