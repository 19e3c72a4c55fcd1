import { describe, expect, test } from 'vitest';
import { Allowance } from './allowance.ts';
import { Fetcher } from './fetcher.ts';
import { Forgotten } from './forgotten.ts';
import { Gate } from './gate.ts';
import { Purses } from './purses.ts';

test('what is spent above the allowance is waited for', () => {
  let now = 0;
  const allowance = new Allowance({ perSecond: 100, burst: 300 }, () => now);
  expect([allowance.spend(300), allowance.spend(50), allowance.spend(50)]).toEqual([0, 500, 1000]);
  now = 1000;
  expect(allowance.spend(0)).toBe(0);
  now = 100_000;
  expect([allowance.spend(300), allowance.spend(1)]).toEqual([0, 10]);
});

describe('what connections may still cost', () => {
  const rate = { perSecond: 100, burst: 1000 };
  const limits = { cpu: rate, bytesIn: rate, bytesOut: rate, pulsesIn: rate };
  const spent = (purses: Purses, address: string, amount: number): void => {
    const purse = purses.take(address);
    purse.cpu.spend(amount);
    purses.leave(address, purse);
  };

  test('is found by the next connection of the address, each by one, until it is paid', () => {
    let now = 0;
    const purses = new Purses(limits, () => now);
    spent(purses, 'a', 2000);
    const [one, two, other] = [purses.take('a'), purses.take('a'), purses.take('b')];
    expect([one, two, other].map(({ cpu }) => cpu.spend(0))).toEqual([10_000, 0, 0]);
    for (const purse of [one, two]) purses.leave('a', purse);
    expect(purses.size).toBe(1);
    now += 10_000;
    expect(purses.take('a').cpu.spend(100)).toBe(1000);
    purses.leave('a', one);
    now += 21_000;
    spent(purses, 'a', 0);
    expect(purses.size).toBe(0);
  });

  test('is remembered of so many addresses: first those are forgotten that owe nothing', () => {
    let now = 0;
    const purses = new Purses(limits, () => now);
    for (let i = 0; i < 1000; i++) spent(purses, `early ${i}`, 500);
    spent(purses, 'debtor', 3000);
    now += 5_000;
    for (let i = 0; i < 24; i++) spent(purses, `late ${i}`, 2000);
    expect(purses.size).toBe(25);
    for (let i = 0; i < 5000; i++) spent(purses, `flood ${i}`, 2000);
    expect(purses.size).toBe(1024);
  });
});

describe('the gate', () => {
  const often = { perSecond: 1000, burst: 1000 };
  const limits = {
    ...{ connections: 4, connectionsPerAddress: 3, handshakes: 3, handshakesPerAddress: 2 },
    ...{ arrivals: often, arrivalsInAll: often },
  };

  test('has so many handshakes at once, in all and of one address', () => {
    const gate = new Gate(limits);
    const tickets = ['10.0.0.1', '10.0.0.1', '10.0.0.1', '10.0.0.2', '10.0.0.3'].map((a) => gate.enter(a));
    expect(tickets.map((ticket) => ticket !== undefined)).toEqual([true, true, false, true, false]);
    expect(gate.handshakes).toBe(3);
    tickets[0]!.admit();
    tickets[0]!.admit();
    expect(gate.handshakes).toBe(2);
    expect(gate.enter('10.0.0.1')).toBeDefined();
    // Now there are three of it, one of them admitted.
    tickets[1]!.leave();
    tickets[1]!.leave();
    expect(gate.handshakes).toBe(2);
  });

  test('has so many connections, in all and of one address, until they end', () => {
    const gate = new Gate(limits);
    const admitted = (address: string) => {
      const ticket = gate.enter(address);
      ticket?.admit();
      return ticket;
    };
    const tickets = ['a', 'a', 'a', 'a', 'b', 'c'].map(admitted);
    expect(tickets.map((ticket) => ticket !== undefined)).toEqual([true, true, true, false, true, false]);
    tickets[0]!.leave();
    expect(admitted('c')).toBeDefined();
  });

  test('lets so many in a second shake hands, of one address and in all, however soon each leaves', () => {
    let now = 0;
    const arrivals = { perSecond: 2, burst: 5 };
    const gate = new Gate({ ...limits, arrivals, arrivalsInAll: { perSecond: 4, burst: 8 } }, () => now);
    const arrive = (address: string, times: number): number =>
      Array.from({ length: times }, () => {
        const ticket = gate.enter(address);
        ticket?.leave();
        return ticket;
      }).filter((ticket) => ticket !== undefined).length;
    expect([arrive('a', 20), arrive('b', 20)]).toEqual([5, 3]);
    now = 1000;
    // What it tried in vain keeps it out no longer.
    expect([arrive('a', 20), arrive('b', 20)]).toEqual([2, 2]);
    now = 60_000;
    expect(arrive('a', 20)).toBe(5);
  });

  test('remembers so many addresses of those that came', () => {
    const rates = { arrivals: { perSecond: 1, burst: 2 }, arrivalsInAll: { perSecond: 1, burst: 5000 } };
    const gate = new Gate({ ...limits, ...rates }, () => 0);
    for (let i = 0; i < 2000; i++) {
      const ticket = gate.enter(`address ${i}`);
      expect(ticket).toBeDefined();
      ticket!.leave();
    }
    expect(gate.remembered).toBeLessThanOrEqual(1024);
  });

  test('counts a /64 of IPv6 as one address', () => {
    const gate = new Gate(limits);
    const admitted = ['2001:db8::1', '2001:db8::2', '2001:db8::3', '2001:db8::4'].map((address) => {
      const ticket = gate.enter(address);
      ticket?.admit();
      return ticket !== undefined;
    });
    expect(admitted).toEqual([true, true, true, false]);
    expect(gate.enter('2001:db8:0:1::1')).toBeDefined();
  });
});

describe('fetching', () => {
  test('asks one peer for what many offer, and the next if it fails', () => {
    const fetcher = new Fetcher(10);
    fetcher.offer('a', ['1', '2', '3']);
    fetcher.offer('b', ['3', '2']);
    expect(fetcher.take('a', 2)).toEqual(['1', '2']);
    expect(fetcher.take('b', 9)).toEqual(['3']);
    expect([fetcher.take('a', 9), fetcher.take('b', 9)]).toEqual([[], []]);
    expect(fetcher.failed('a', '1')).toEqual([]);
    expect(fetcher.failed('a', '2')).toEqual(['b']);
    expect(fetcher.take('b', 9)).toEqual(['2']);
    fetcher.done('2');
    fetcher.done('3');
    expect([fetcher.size, fetcher.queued('a'), fetcher.queued('b')]).toEqual([0, 0, 0]);
  });

  test('forgets a peer that is gone, with what only it offered', () => {
    const fetcher = new Fetcher(10);
    fetcher.offer('a', ['1', '2', '3']);
    fetcher.offer('b', ['1']);
    expect(fetcher.take('a', 2)).toEqual(['1', '2']);
    expect(fetcher.gone('a')).toEqual(['b']);
    expect([fetcher.take('b', 9), fetcher.size]).toEqual([['1'], 1]);
  });

  test('asks for what others stand on first, the last one before all, whatever else is offered', () => {
    const fetcher = new Fetcher(3);
    fetcher.offer('a', ['1', '2', '3', '4']);
    fetcher.offer('a', ['5', '6'], 'first');
    fetcher.offer('a', ['2'], 'first');
    fetcher.offer('a', ['3', '7'], 'announced');
    expect(fetcher.queued('a')).toBe(5);
    expect(fetcher.take('a', 9)).toEqual(['2', '6', '5', '3', '1']);
    for (let i = 0; i < 100; i++) fetcher.offer('a', [`first ${i}`], 'first');
    expect(fetcher.queued('a')).toBe(6);
    expect(fetcher.take('a', 2)).toEqual(['first 99', 'first 98']);
    fetcher.gone('a');
    expect(fetcher.size).toBe(0);
  });

  test('remembers what was forgotten by what it stands on, some of it', () => {
    const forgotten = new Forgotten(4);
    forgotten.remember('b', ['a']);
    forgotten.remember('c', ['b', 'x']);
    forgotten.remember('d', ['c']);
    expect(forgotten.heirsOf(['a'], 9)).toEqual(['b', 'c', 'd']);
    expect([forgotten.size, forgotten.heirsOf(['a'], 9)]).toEqual([1, []]);
    forgotten.remember('e', ['d']);
    forgotten.remember('f', ['e']);
    expect([forgotten.heirsOf(['d'], 1), forgotten.heirsOf(['e'], 1)]).toEqual([['e'], ['f']]);
    for (let i = 0; i < 100; i++) forgotten.remember(`${i}`, ['one that never comes']);
    expect(forgotten.size).toBeLessThanOrEqual(4);
  });

  test('takes so many offers of a peer, and so many peers for a record', () => {
    const fetcher = new Fetcher(3);
    fetcher.offer('a', ['1', '2', '3', '4']);
    expect([fetcher.size, fetcher.queued('a')]).toEqual([3, 3]);
    for (let i = 0; i < 20; i++) fetcher.offer(`peer ${i}`, ['1']);
    expect([fetcher.queued('peer 6'), fetcher.queued('peer 7')]).toEqual([1, 0]);
  });
});
