import { expect, test, vi } from 'vitest';
import { openStore } from '../../lib/framework/store.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { answerKind } from '../relay/kinds/answer.ts';
import { requestKind } from '../relay/kinds/request.ts';
import { sealedKind } from '../relay/kinds/sealed.ts';
import { numberOf, registered, someAnswer, someKinds, someRequest, someSealed } from './gossip.fixture.ts';
import { MessageIndex } from './message-index.ts';
import { MessageKinds, messageId } from './message-kind.ts';
import { MessageLog, SELF } from './message-log.ts';

const { subjectOf } = requestKind;

const nodesIn = (log: MessageLog): number[] => log.after(0, 1000).map(({ message }) => numberOf(message));

test('the same message is one entry, whatever the order of its fields; a log goes on after a restart', () => {
  const store = openStore(':memory:');
  const log = new MessageLog(store, registered);
  const first = log.add(someRequest(1), 'a');
  expect(first).toMatchObject({ fresh: true, entry: { sequence: 1 } });
  const turned = Object.fromEntries(Object.entries(someRequest(1)).reverse()) as ReturnType<
    typeof someRequest
  >;
  expect(log.add(turned, 'b')).toMatchObject({ fresh: false, entry: { sequence: 1 } });

  const again = new MessageLog(store, registered);
  expect(again.identity).toBe(log.identity);
  expect(again.add(someRequest(1), 'a').fresh).toBe(false);
  expect(again.add(someRequest(2), 'a').entry.sequence).toBe(2);
  expect(again.get(messageId(someRequest(2)))?.message).toEqual(someRequest(2));
  expect(new MessageLog(openStore(':memory:'), registered).identity).not.toBe(log.identity);
});

test("a flooding source evicts its own messages, not others'", () => {
  const log = new MessageLog(openStore(':memory:'), registered, { loosePerSource: 3, loose: 100 });
  log.add(someRequest(1), 'honest');
  for (let n = 10; n < 20; n += 1) log.add(someRequest(n), 'flooder');
  expect(nodesIn(log)).toEqual([1, 17, 18, 19]);
  expect(log.about(requestKind, subjectOf(someRequest(10)))).toEqual([]);
});

test('many sources together are bounded too: of equals the oldest message goes', () => {
  const log = new MessageLog(openStore(':memory:'), registered, { loosePerSource: 3, loose: 4 });
  for (let n = 1; n <= 7; n += 1) log.add(someRequest(n), `source ${n}`);
  expect(nodesIn(log)).toEqual([4, 5, 6, 7]);
  expect(log.count()).toEqual({ loose: 4, kept: 0 });
});

test('what is on chain is kept from the eviction of loose ones, with what comes later about it', () => {
  const log = new MessageLog(openStore(':memory:'), registered, { loosePerSource: 2, loose: 2, kept: 4 });
  const subject = subjectOf(someRequest(1));
  log.add(someRequest(1), 'a');
  log.keep(subject);
  for (let n = 10; n < 20; n += 1) log.add(someRequest(n), 'a');
  const [answer, sealed] = [someAnswer(parseHex(subject)), someSealed(parseHex(subject))];
  log.add(answer, 'a');
  log.add(sealed, 'a');
  for (let n = 20; n < 30; n += 1) log.add(someRequest(n), 'a');
  expect(log.about(requestKind, subject)).toEqual([someRequest(1)]);
  expect(log.about(answerKind, subject)).toEqual([answer]);
  expect(log.about(sealedKind, subject)).toEqual([sealed]);
  expect(log.isKept(subject)).toBe(true);
  expect(log.count()).toEqual({ loose: 2, kept: 3 });

  // Even those are bounded: a request costs gas, but the store is not for ever.
  for (const n of [28, 29]) log.keep(subjectOf(someRequest(n)));
  expect(log.count().kept).toBe(4);
});

test("versions of one request are bounded, but never keep this host's own out", () => {
  const log = new MessageLog(openStore(':memory:'), registered, { perSubject: 2 });
  expect(log.add(someRequest(1, '01'), 'a').fresh).toBe(true);
  expect(log.add(someRequest(1, '02'), 'a').fresh).toBe(true);
  expect(log.add(someRequest(1, '03'), 'a').fresh).toBe(false);
  expect(log.add(someRequest(1, '04'), SELF).fresh).toBe(true);
  expect(log.about(requestKind, subjectOf(someRequest(1))).map(({ quote }) => quote)).toEqual([
    '01',
    '02',
    '04',
  ]);
});

test('who floods from a few sources pushes out themselves, not the one who said something first', () => {
  const log = new MessageLog(openStore(':memory:'), registered, { loosePerSource: 4, loose: 8 });
  log.add(someRequest(1), 'honest');
  for (let n = 10; n < 50; n += 1) log.add(someRequest(n), `flooder ${n % 3}`);
  expect(nodesIn(log)).toContain(1);
  expect(log.count().loose).toBe(8);
});

test("strangers, however many, push out nothing of this host's own nor of the peers that it chose", () => {
  const log = new MessageLog(openStore(':memory:'), registered, {
    loosePerSource: 3,
    loose: 4,
    reserved: ['http://peer'],
  });
  log.add(someRequest(1), SELF);
  for (const n of [2, 3]) log.add(someRequest(n), 'http://peer');
  // A stranger was faster with a message that the peer has too: it counts as the peer's all the same.
  log.add(someRequest(4), 'stranger');
  expect(log.add(someRequest(4), 'http://peer').fresh).toBe(false);
  for (let n = 10; n < 60; n += 1) log.add(someRequest(n), `stranger ${n}`);
  expect(nodesIn(log)).toEqual([1, 2, 3, 4, 56, 57, 58, 59]);
  // Its own room is bounded too.
  for (let n = 60; n < 70; n += 1) log.add(someRequest(n), 'http://peer');
  expect(nodesIn(log)).toEqual([1, 56, 57, 58, 59, 67, 68, 69]);
});

test('of kept ones the request with most messages gives way, its newest copy first', () => {
  const log = new MessageLog(openStore(':memory:'), registered, { kept: 6 });
  for (let n = 1; n <= 9; n += 1) log.keep(subjectOf(someRequest(n)));
  log.add(someRequest(1), 'honest');
  log.add(someAnswer(parseHex(subjectOf(someRequest(1)))), 'honest');
  for (let copy = 0; copy < 9; copy += 1) log.add(someRequest(2, `0${copy}`), `source ${copy}`);
  expect(log.about(requestKind, subjectOf(someRequest(1)))).toHaveLength(1);
  expect(log.about(answerKind, subjectOf(someRequest(1)))).toHaveLength(1);
  expect(log.about(requestKind, subjectOf(someRequest(2))).map(({ quote }) => quote)).toEqual([
    '00',
    '01',
    '02',
    '03',
  ]);
  expect(log.isKept(subjectOf(someRequest(2)))).toBe(true);
});

test("copies of one source leave a place for another's", () => {
  const log = new MessageLog(openStore(':memory:'), registered);
  for (let copy = 0; copy < 20; copy += 1) log.add(someRequest(1, `${10 + copy}`), 'a');
  expect(log.add(someRequest(1, 'ff'), 'b').fresh).toBe(true);
  const quotes = log.about(requestKind, subjectOf(someRequest(1))).map(({ quote }) => quote);
  expect(quotes).toEqual(['10', '11', '12', '13', '14', '15', '16', 'ff']);
});

test('a refused copy frees its place and is never taken again, also by a process that starts anew', () => {
  const store = openStore(':memory:');
  const log = new MessageLog(store, registered, { perSubject: 2 });
  const subject = subjectOf(someRequest(1));
  log.add(someRequest(1, '01'), 'a');
  log.add(someRequest(1, '02'), 'b');
  expect(log.add(someRequest(1, '03'), 'c').fresh).toBe(false);
  log.refuse(messageId(someRequest(1, '01')));
  expect(log.add(someRequest(1, '03'), 'c').fresh).toBe(true);
  log.refuse(messageId(someRequest(1, '02')));
  for (const again of [log, new MessageLog(store, registered, { perSubject: 2 })]) {
    for (const copy of ['01', '02']) expect(again.add(someRequest(1, copy), 'd').fresh).toBe(false);
  }
  expect(log.about(requestKind, subject).map(({ quote }) => quote)).toEqual(['03']);

  // What is remembered is bounded, and goes with the request.
  for (let copy = 0; copy < 100; copy += 1) {
    log.add(someRequest(1, `${1000 + copy}`), 'e');
    log.refuse(messageId(someRequest(1, `${1000 + copy}`)));
  }
  expect(store.count('gossip/refused/')).toBe(64);
  log.forget(subject);
  expect(store.list('gossip/').map(({ key }) => key)).toEqual(['gossip/last', 'gossip/log']);
});

test('a copy that is refused for now gives its place to one that was not tried, of whatever source', () => {
  const log = new MessageLog(openStore(':memory:'), registered, { perSubject: 2 });
  for (const [copy, source] of [
    ['01', 'a'],
    ['02', 'b'],
  ] as const)
    log.add(someRequest(1, copy), source);
  log.tried(messageId(someRequest(1, '02')));
  expect(log.add(someRequest(1, '03'), 'b').fresh).toBe(true);
  expect(log.add(someRequest(1, '04'), 'c').fresh).toBe(false);
  expect(log.about(requestKind, subjectOf(someRequest(1))).map(({ quote }) => quote)).toEqual(['01', '03']);
});

test('a message is put behind the others once more, the same one', () => {
  const log = new MessageLog(openStore(':memory:'), registered);
  for (const n of [1, 2]) log.add(someRequest(n), SELF);
  expect(log.renew(messageId(someRequest(1)))).toMatchObject({ sequence: 3, message: someRequest(1) });
  expect(nodesIn(log)).toEqual([2, 1]);
  expect(log.about(requestKind, subjectOf(someRequest(1)))).toHaveLength(1);
  expect(log.renew(messageId(someRequest(9)))).toBeUndefined();
});

test('an address is the same in any case: who writes it in another gets no second entry', () => {
  const log = new MessageLog(openStore(':memory:'), registered);
  const subject = 'ab'.repeat(32);
  const answer = {
    ...someAnswer(parseHex(subject)),
    contract: parseAddress(`0x${'ab'.repeat(20)}`),
    node: parseAddress(`0x${'cd'.repeat(20)}`),
  };
  expect(log.add(answer, 'a').fresh).toBe(true);
  for (const [n, other] of [
    { ...answer, contract: parseAddress(`0x${'aB'.repeat(20)}`) },
    { ...answer, node: parseAddress(`0x${'CD'.repeat(20)}`) },
    { ...answer, contract: parseAddress(`0x${'AB'.repeat(20)}`), node: parseAddress(`0x${'Cd'.repeat(20)}`) },
  ].entries()) {
    expect(log.add(other, `stranger ${n}`).fresh).toBe(false);
  }
  expect(log.about(answerKind, subject)).toEqual([answer]);
});

test('what becomes kept all at once is bounded too', () => {
  const log = new MessageLog(openStore(':memory:'), registered, { kept: 4 });
  for (let copy = 0; copy < 8; copy += 1) log.add(someRequest(1, `0${copy}`), `source ${copy}`);
  log.keep(subjectOf(someRequest(1)));
  expect(log.count()).toEqual({ loose: 0, kept: 4 });
});

test('of more subjects than a chain can have those go of which nothing has come, the oldest first', () => {
  const store = openStore(':memory:');
  const log = new MessageLog(store, registered, { subjects: 100 });
  const genuine = subjectOf(someRequest(1));
  log.keep(genuine, 1000);
  log.add(someRequest(1), 'a');
  for (let n = 1000; n < 1500; n += 1) log.keep(subjectOf(someRequest(n)), 1000);
  expect(store.count('gossip/kept/')).toBeLessThanOrEqual(100);
  expect(log.isKept(genuine)).toBe(true);
  expect(log.isKept(subjectOf(someRequest(1499)))).toBe(true);
  expect(log.isKept(subjectOf(someRequest(1000)))).toBe(false);
});

test('entries of a kind that is not registered any more are dropped, the others stay', () => {
  const store = openStore(':memory:');
  const log = new MessageLog(store, registered);
  const [first, second] = [someRequest(1), someRequest(2)];
  for (const request of [first, second]) {
    log.add(request, 'a');
    log.add(someSealed(parseHex(subjectOf(request))), 'a');
  }
  log.keep(subjectOf(second));

  const fewer = new MessageKinds(someKinds().filter(({ type }) => type !== 'sealed'));
  const later = new MessageLog(store, fewer);
  expect(later.after(0, 10).map(({ message }) => message)).toEqual([first, second]);
  expect(later.count()).toEqual({ loose: 1, kept: 1 });
  expect(store.count('gossip/message/')).toBe(2);
  expect(later.add(someRequest(3), 'a').entry.sequence).toBe(5);
});

test('a store of before is read: its marks count, and the rows by which it found messages go', () => {
  const store = openStore(':memory:');
  const before = new MessageLog(store, registered);
  before.add(someRequest(1), 'a');
  const subject = subjectOf(someRequest(1));
  store.put(`gossip/kept/${subject}`, '1');
  for (const row of [
    `id/${messageId(someRequest(1))}`,
    `subject/request/${subject}/0`,
    `class/kept/${subject}/0`,
  ]) {
    store.put(`gossip/${row}`, '{}');
  }
  const log = new MessageLog(store, registered);
  expect(log.isKept(subject)).toBe(true);
  expect(log.count()).toEqual({ loose: 0, kept: 1 });
  expect(store.list('gossip/').map(({ key }) => key.split('/')[1])).toEqual([
    'kept',
    'last',
    'log',
    'message',
  ]);
});

test('room for what is not on chain yet grows with what is', () => {
  const log = new MessageLog(openStore(':memory:'), registered, {
    loosePerSource: 4,
    loose: 8,
    reserved: ['http://peer'],
  });
  for (let n = 1; n <= 20; n += 1) log.keep(subjectOf(someRequest(n)), 100);
  for (let n = 100; n < 200; n += 1) log.add(someRequest(n), 'http://peer');
  expect(log.count().loose).toBe(40);
  for (let n = 21; n <= 500; n += 1) log.keep(subjectOf(someRequest(n)), 100);
  for (let n = 1000; n < 1200; n += 1) log.add(someRequest(n), 'http://peer');
  expect(log.count().loose).toBe(128);
});

test('what is kept goes when its request is over, not when there is much of it; and not before an hour', () => {
  vi.useFakeTimers();
  try {
    const store = openStore(':memory:');
    const log = new MessageLog(store, registered);
    for (let n = 1; n <= 300; n += 1) {
      log.add(someRequest(n), SELF);
      log.keep(subjectOf(someRequest(n)), 100 + n);
    }
    log.expire(1000);
    expect(log.count()).toEqual({ loose: 0, kept: 300 });
    vi.advanceTimersByTime(61 * 60_000);
    // A part of it at once: the process has other things to do.
    expect(log.expire(201)).toBe(true);
    expect(log.expire(201)).toBe(false);
    expect(nodesIn(log)).toEqual(Array.from({ length: 200 }, (_, at) => 101 + at));
    expect(log.isKept(subjectOf(someRequest(100)))).toBe(false);
    // Of several ends the last counts, also after a restart; without one it stays.
    log.keep(subjectOf(someRequest(300)), 5000);
    log.keep(subjectOf(someRequest(400)));
    const again = new MessageLog(store, registered);
    for (let isMore = true; isMore; ) isMore = again.expire(4000);
    expect(nodesIn(again)).toEqual([300]);
    expect(again.isKept(subjectOf(someRequest(400)))).toBe(true);
  } finally {
    vi.useRealTimers();
  }
});

test('what is kept is bounded in bytes too', () => {
  const log = new MessageLog(openStore(':memory:'), registered, { keptSize: 20_000 });
  for (let n = 1; n <= 20; n += 1) {
    log.add(someRequest(n), SELF);
    log.keep(subjectOf(someRequest(n)), 100);
  }
  expect(log.count().kept).toBeLessThan(7);
  expect(log.count().kept).toBeGreaterThan(3);
});

test('what should be here and is not is sought, until it comes or its time is over', () => {
  const log = new MessageLog(openStore(':memory:'), registered);
  const [one, two, three] = [1, 2, 3].map((n) => subjectOf(someRequest(n))) as [string, string, string];
  log.seek(one, 50);
  log.seek(two, 60);
  log.seek(three, 70);
  expect(log.sought.all()).toEqual([one, two, three]);
  log.add(someRequest(2), 'a');
  log.expire(51);
  expect(log.sought.all()).toEqual([three]);
});

test('a store that can not be written leaves everything as it was: what is held is still there, once', () => {
  const store = openStore(':memory:');
  const log = new MessageLog(store, registered);
  const subject = subjectOf(someRequest(1));
  const { id } = log.add(someRequest(1), 'a').entry;
  log.keep(subject, 5);
  const { batch } = store;
  store.batch = () => {
    throw new Error('the disk is full');
  };
  for (const change of [
    () => log.refuse(id),
    () => log.renew(id),
    () => log.forget(subject),
    () => log.add(someRequest(2), 'a'),
  ]) {
    expect(change).toThrow('the disk is full');
    expect(log.count()).toEqual({ loose: 0, kept: 1 });
    expect(log.isKept(subject)).toBe(true);
    expect(nodesIn(log)).toEqual([1]);
  }
  store.batch = batch;
  expect(log.add(someRequest(1), 'a').fresh).toBe(false);
  log.refuse(id);
  expect(new MessageLog(store, registered).count()).toEqual({ loose: 0, kept: 0 });
});

test('a message that a store has twice counts once, and its first copy goes', () => {
  const store = openStore(':memory:');
  const log = new MessageLog(store, registered);
  log.add(someRequest(1), 'a');
  const [row] = store.list('gossip/message/');
  store.put('gossip/message/0000000000000009', row!.value);
  const again = new MessageLog(store, registered);
  expect(again.count()).toEqual({ loose: 1, kept: 0 });
  expect(again.idsAfter(0, 9).map(({ sequence }) => sequence)).toEqual([9]);
  expect(store.count('gossip/message/')).toBe(1);
});

test('however many messages the chain makes room for, loose ones are bounded by their size: the largest source gives way', () => {
  const large = 'ab'.repeat(5_000);
  const limits = { looseSize: 45_000, looseSizePerSource: 30_000, reserved: ['peer'] };
  const log = new MessageLog(openStore(':memory:'), registered, limits);
  for (let n = 1; n <= 200; n += 1) log.keep(subjectOf(someRequest(1000 + n)));
  log.add(someRequest(1), 'honest');
  for (let n = 10; n < 20; n += 1) log.add(someRequest(n, large), 'one');
  expect(nodesIn(log)).toEqual([1, 18, 19]);
  for (let n = 20; n < 30; n += 1) log.add(someRequest(n, large), `source ${n}`);
  for (let n = 30; n < 40; n += 1) log.add(someRequest(n, large), 'peer');
  expect(nodesIn(log)).toEqual([1, 27, 28, 29, 38, 39]);
});

test('who gives way is found without a look at all that is kept, and is the one with most whatever came and went', () => {
  let asked = 0;
  const index = new MessageIndex(() => {
    asked += 1;
    return true;
  });
  const row = (sequence: number, subject: string) => ({
    ...{ sequence, subject, id: `${sequence}`, type: 'request', size: 10, source: 'a' },
  });
  expect(index.mostKept()).toEqual([]);
  for (let n = 1; n <= 1000; n += 1) index.add(row(n, `subject ${n % 500}`));
  index.add(row(1001, 'subject 7'));
  asked = 0;
  expect(index.mostKept().map(({ id }) => id)).toEqual(['7', '507', '1001']);
  index.delete('507');
  // All have two again, this one since last.
  expect(index.mostKept().map(({ subject }) => subject)).toEqual(['subject 1', 'subject 1']);
  for (const id of ['1', '501', '2', '502']) index.delete(id);
  expect(index.mostKept().map(({ subject }) => subject)).toEqual(['subject 3', 'subject 3']);
  expect(asked).toBe(0);
});
