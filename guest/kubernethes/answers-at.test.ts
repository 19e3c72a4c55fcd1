/** Which container of which version hosts ask, whatever the app is doing; and by which code it is said that there is none. */
import { expect, test } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { node } from './supervisor.fixture.ts';

const requests = { port: 9000 };
/** Where `greeting` is asked, or why it is not. */
const placeIn = ({ supervisor }: ReturnType<typeof node>): string => {
  try {
    const { host, port } = supervisor.answersAt('greeting');
    return `${host}:${port}`;
  } catch (error) {
    return codeOf(error);
  }
};

test('an app is unknown once the contract was read, and not before', async () => {
  const one = node();
  expect(placeIn(one)).toBe('APP_NOT_RUNNING');
  await one.step({});
  expect(placeIn(one)).toBe('APP_UNKNOWN');
});

test('one whose manifest opens no port is not asked', async () => {
  const one = node();
  one.publish2('greeting', 'a');
  await one.step({ greeting: 'a' });
  expect(placeIn(one)).toBe('APP_NO_REQUESTS');
});

test('of two versions the one that serves is asked; while it is replaced, none', async () => {
  for (const update of ['beside', 'replace'] as const) {
    const one = node();
    one.publish2('greeting', 'a', { requests, update });
    one.publish2('greeting', 'b', { requests: { port: 9001 }, update });
    await one.step({ greeting: 'a' });
    const first = placeIn(one);
    expect(first).toMatch(/^10\.90\.\d+\.\d+:9000$/);
    const seen = new Set<string>();
    one.whenever(() => {
      seen.add(placeIn(one));
    });
    await one.step({ greeting: 'b' });
    const last = placeIn(one);
    expect(last).toMatch(/:9001$/);
    const between = [...seen].filter((place) => place !== first && place !== last);
    expect(between, update).toEqual(update === 'replace' && between.length > 0 ? ['APP_NOT_RUNNING'] : []);
  }
});

test('one that is withdrawn is asked no more', async () => {
  const one = node();
  one.publish2('greeting', 'a', { requests });
  await one.step({ greeting: 'a' });
  await one.step({});
  expect(placeIn(one)).toBe('APP_NOT_RUNNING');
  // It is forgotten once its containers are gone.
  await one.step({});
  expect(placeIn(one)).toBe('APP_UNKNOWN');
});

test('a daemon that is started again asks what runs, without the contract', async () => {
  const one = node();
  one.publish2('greeting', 'a', { requests });
  await one.step({ greeting: 'a' });
  const before = placeIn(one);
  await one.restart();
  expect(placeIn(one)).toBe(before);
});
