import { expect, test } from 'vitest';
import { registered, someRequest } from './gossip.fixture.ts';
import { messageId } from './message-kind.ts';
import { SharedParts } from './shared-parts.ts';

const collateralOf = (nth: number) => ({ tcb_info: `the ${nth}th, `.repeat(100) });
/** As it comes from the wire: nothing of it is the same object. */
const request = (n: number, nth: number) =>
  JSON.parse(JSON.stringify({ ...someRequest(n), collateral: collateralOf(nth) })) as ReturnType<
    typeof someRequest
  >;

test('a part that both have is left out, and put back; the message is the same', () => {
  const [here, there] = [new SharedParts(registered), new SharedParts(registered)];
  there.note(request(1, 1));
  const sent = here.without(request(2, 1), new Set(there.atHand().names()));
  expect(JSON.stringify(sent).length).toBeLessThan(JSON.stringify(request(2, 1)).length - 800);
  const whole = there.atHand().whole(JSON.parse(JSON.stringify(sent)));
  expect(whole).toEqual(request(2, 1));
  expect(messageId(whole as ReturnType<typeof request>)).toBe(messageId(request(2, 1)));
});

test('a part that the reader does not have is sent; one that it has lost makes no message', () => {
  const [here, there] = [new SharedParts(registered), new SharedParts(registered)];
  there.note(request(1, 1));
  expect(here.without(request(2, 2), new Set(there.atHand().names()))).toEqual({ message: request(2, 2) });
  const sent = here.without(request(2, 1), new Set(there.atHand().names()));
  const before = there.atHand();
  for (let nth = 2; nth < 40; nth += 1) there.note(request(1, nth));
  expect(there.atHand().names()).toHaveLength(16);
  // Asked for while it was there, it is put back all the same.
  expect(before.whole(sent)).toEqual(request(2, 1));
  expect(there.atHand().whole(sent)).toBeUndefined();
});

test('a message without such parts, or with a small one, travels as it is', () => {
  const parts = new SharedParts(registered);
  const small = { ...someRequest(1), collateral: { tcb_info: 'x' } } as unknown as ReturnType<typeof request>;
  for (const message of [someRequest(1), small]) {
    parts.note(message);
    expect(parts.without(message, new Set(['00'.repeat(8)]))).toEqual({ message });
  }
  expect(parts.atHand().names()).toEqual([]);
});
