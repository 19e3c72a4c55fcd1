import { expect, test } from 'vitest';
import { openStore } from '../../lib/framework/store.ts';
import { numberOf, someAnswer, someRequest, someSealed } from './gossip.fixture.ts';
import { MessageLog, messageId, SELF, subjectOf } from './message-log.ts';

const nodesIn = (log: MessageLog): number[] => log.after(0, 1000).map(({ message }) => numberOf(message));

test('the same message is one entry, whatever the order of its fields; a log goes on after a restart', () => {
  const store = openStore(':memory:');
  const log = new MessageLog(store);
  const first = log.add(someRequest(1), 'a');
  expect(first).toMatchObject({ fresh: true, entry: { sequence: 1 } });
  const turned = Object.fromEntries(Object.entries(someRequest(1)).reverse()) as ReturnType<
    typeof someRequest
  >;
  expect(log.add(turned, 'b')).toMatchObject({ fresh: false, entry: { sequence: 1 } });

  const again = new MessageLog(store);
  expect(again.identity).toBe(log.identity);
  expect(again.add(someRequest(1), 'a').fresh).toBe(false);
  expect(again.add(someRequest(2), 'a').entry.sequence).toBe(2);
  expect(again.get(messageId(someRequest(2)))?.message).toEqual(someRequest(2));
  expect(new MessageLog(openStore(':memory:')).identity).not.toBe(log.identity);
});

test('a flooding source evicts its own messages, not others’', () => {
  const log = new MessageLog(openStore(':memory:'), { loosePerSource: 3, loose: 100 });
  log.add(someRequest(1), 'honest');
  for (let n = 10; n < 20; n += 1) log.add(someRequest(n), 'flooder');
  expect(nodesIn(log)).toEqual([1, 17, 18, 19]);
  expect(log.about('request', subjectOf(someRequest(10)))).toEqual([]);
});

test('many sources together are bounded too: the oldest loose message goes', () => {
  const log = new MessageLog(openStore(':memory:'), { loosePerSource: 3, loose: 4 });
  for (let n = 1; n <= 7; n += 1) log.add(someRequest(n), `source ${n}`);
  expect(nodesIn(log)).toEqual([4, 5, 6, 7]);
  expect(log.count()).toEqual({ loose: 4, kept: 0 });
});

test('what is on chain is kept from the eviction of loose ones, with what comes later about it', () => {
  const log = new MessageLog(openStore(':memory:'), { loosePerSource: 2, loose: 2, kept: 4 });
  const subject = subjectOf(someRequest(1));
  log.add(someRequest(1), 'a');
  log.keep(subject);
  for (let n = 10; n < 20; n += 1) log.add(someRequest(n), 'a');
  const [answer, sealed] = [someAnswer(subject), someSealed(subject)];
  log.add(answer, 'a');
  log.add(sealed, 'a');
  for (let n = 20; n < 30; n += 1) log.add(someRequest(n), 'a');
  expect(log.about('request', subject)).toEqual([someRequest(1)]);
  expect(log.about('answer', subject)).toEqual([answer]);
  expect(log.about('sealed', subject)).toEqual([sealed]);
  expect(log.isKept(subject)).toBe(true);
  expect(log.count()).toEqual({ loose: 2, kept: 3 });

  // Even those are bounded: a request costs gas, but the store is not for ever.
  for (const n of [28, 29]) log.keep(subjectOf(someRequest(n)));
  expect(log.count().kept).toBe(4);
});

test('versions of one request are bounded, but never keep this host’s own out', () => {
  const log = new MessageLog(openStore(':memory:'), { perSubject: 2 });
  expect(log.add(someRequest(1, '01'), 'a').fresh).toBe(true);
  expect(log.add(someRequest(1, '02'), 'a').fresh).toBe(true);
  expect(log.add(someRequest(1, '03'), 'a').fresh).toBe(false);
  expect(log.add(someRequest(1, '04'), SELF).fresh).toBe(true);
  expect(log.about('request', subjectOf(someRequest(1))).map(({ quote }) => quote)).toEqual([
    '01',
    '02',
    '04',
  ]);
});
