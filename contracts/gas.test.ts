import { beforeAll, expect, test } from 'vitest';
import { CEILINGS, committedGas, type GasTable, gasPage, measureGas } from './gas.ts';

let measured: GasTable;
beforeAll(async () => {
  measured = await measureGas();
});

test('every figure is the committed one; if the change is meant: node contracts/gas.ts --update', () => {
  expect(measured).toEqual(committedGas().table);
});

test('docs/gas.md shows these figures; if not: node contracts/gas.ts --update', () => {
  expect(committedGas().page).toBe(gasPage(measured));
});

test.each(Object.entries(CEILINGS))('%s stays under %d', (label, ceiling) => {
  expect(measured[label]).toBeGreaterThan(21_000);
  expect(measured[label]).toBeLessThan(ceiling);
});
