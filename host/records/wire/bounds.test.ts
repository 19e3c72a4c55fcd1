import { describe, expect, test } from 'vitest';
import { Allowance } from './allowance.ts';
import { Fetcher } from './fetcher.ts';
import { Gate } from './gate.ts';

test('what is spent above the allowance is waited for', () => {
  let now = 0;
  const allowance = new Allowance({ perSecond: 100, burst: 300 }, () => now);
  expect([allowance.spend(300), allowance.spend(50), allowance.spend(50)]).toEqual([0, 500, 1000]);
  now = 1000;
  expect(allowance.spend(0)).toBe(0);
  now = 100_000;
  expect([allowance.spend(300), allowance.spend(1)]).toEqual([0, 10]);
});

describe('the gate', () => {
  const limits = { connections: 4, connectionsPerAddress: 3, handshakes: 3, handshakesPerAddress: 2 };

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

  test('takes so many offers of a peer, and so many peers for a record', () => {
    const fetcher = new Fetcher(3);
    fetcher.offer('a', ['1', '2', '3', '4']);
    expect([fetcher.size, fetcher.queued('a')]).toEqual([3, 3]);
    for (let i = 0; i < 20; i++) fetcher.offer(`peer ${i}`, ['1']);
    expect([fetcher.queued('peer 6'), fetcher.queued('peer 7')]).toEqual([1, 0]);
  });
});
