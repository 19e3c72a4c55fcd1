/** Hosts whose nodes answer and seal, and whose relays keep it to themselves: dead ones, or malicious ones, whichever turn is theirs. */
import { expect, test } from 'vitest';
import { type ModelledHost, ModelledHosts } from '../../test/support/modelled-hosts.ts';

/** Each of eight relays begins within so many milliseconds of seeing an event, whatever the others do: answer-turns.ts. */
const TURNS_MS = 8 * 1.5 * (300 + 2 * 150 + 1000);

test('of eight hosts six are silent: each node joins all the same, later by no more than the turns of an answer and of a seal', async () => {
  const joiners = 6;
  const open = (silent: number) => ModelledHosts.open({ hosts: 8, joiners, isSilent: (nth) => nth < silent });
  const [honest, silent] = [await timesToJoin(await open(0)), await timesToJoin(await open(6))];
  expect(silent.times).toHaveLength(joiners);
  // A block may pass between either.
  const bound = Math.max(...honest.times) + 2 * TURNS_MS + 2 * 12_000;
  expect(Math.max(...silent.times)).toBeLessThan(bound);
  // It costs the silent ones their work: nobody is asked twice.
  for (const times of silent.onboards) expect(times).toBeLessThanOrEqual(8);
  expect(silent.honestAnswers).toBeGreaterThanOrEqual(joiners);
}, 240_000);

async function timesToJoin(model: ModelledHosts) {
  try {
    const added: ModelledHost[] = [];
    for (const joiner of model.joiners) {
      added.push(model.add(joiner));
      await model.pass(7_000);
    }
    for (let waited = 0; added.some(({ joinedAt }) => joinedAt === undefined); waited += 1) {
      if (waited > 900) break;
      await model.pass(1_000);
    }
    return {
      times: added.flatMap(({ joinedAt, addedAt }) => (joinedAt === undefined ? [] : [joinedAt - addedAt])),
      onboards: [...model.onboards.values()],
      honestAnswers: model.hosts.slice(6, 8).reduce((sum, host) => sum + host.worked, 0),
    };
  } finally {
    await model.close();
  }
}
