/** Parts of a relay and of a node that once read all that they had for each thing that they did. */
import { SIMULATED_ROOT } from '../lib/attestation/certificates/trust-roots.ts';
import { createMemory } from '../lib/attestation/memory.ts';
import { createSimulatedPlatform } from '../lib/attestation/simulated/platform.ts';
import { simulatedCase } from '../lib/attestation/testing.ts';
import { verify } from '../lib/attestation/verify.ts';
import { openStore } from '../lib/framework/store.ts';
import type { Row } from './growth.ts';

/** By time: how long one of many takes. In memory, so that the disk has no part in it. */
export function storeRows(): Row[] {
  return [100, 1_000, 10_000, 100_000].flatMap((size) => {
    const store = openStore(':memory:');
    for (let from = 0; from < size; from += 1000) {
      const some = Array.from({ length: Math.min(1000, size) }, (_, n) => String(from + n).padStart(8, '0'));
      store.batch(some.map((name) => ({ kind: 'put', key: `a/${name}`, value: name })));
    }
    store.put('z/1', 'x');
    // The median: another process that has the processor meanwhile is no part of it.
    const each = (times: number, action: (n: number) => unknown): number => {
      const took = Array.from({ length: times }, (_, n) => {
        const begun = performance.now();
        action(n);
        return 1000 * (performance.now() - begun);
      });
      return took.toSorted((a, b) => a - b)[times >> 1]!;
    };
    const listed = each(1_000, () => store.list('z/'));
    // The first count reads all of them.
    store.count('a/');
    const counted = each(1_000, (n) => {
      store.put(`a/more-${n}`, 'x');
      return store.count('a/');
    });
    store.close();
    return [
      { what: 'store: a list of one row behind others', size, figure: listed, unit: 'µs' },
      { what: 'store: a write, and a count of all', size, figure: counted, unit: 'µs' },
    ];
  });
}

/** Platforms that come in turn, as after an update of all. */
export function memoryRows(): Row[] {
  return [100, 129, 1_000].flatMap((size) => {
    const { expected, registers, reportData } = simulatedCase();
    const quotes = Array.from({ length: size }, (_, n) => {
      const ppid = Buffer.alloc(16);
      ppid.writeUInt32BE(n + 1);
      return createSimulatedPlatform({ ppid }).signQuote({ registers, reportData });
    });
    const memory = createMemory(SIMULATED_ROOT);
    const round = () => {
      for (const quote of quotes) verify(quote, { ...expected, memory });
    };
    round();
    let hits = 0;
    const { get } = memory.pckChains;
    memory.pckChains.get = (key) => {
      const found = get.call(memory.pckChains, key);
      if (found !== undefined) hits += 1;
      return found;
    };
    const before = process.cpuUsage();
    round();
    const { user, system } = process.cpuUsage(before);
    return [
      { what: 'verifier: platforms still known, all in turn', size, figure: (100 * hits) / size, unit: '%' },
      { what: 'verifier: a quote', size, figure: (user + system) / 1000 / size, unit: 'ms of CPU' },
    ];
  });
}
