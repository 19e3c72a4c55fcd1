import { expect, test } from 'vitest';
import { LED_FOR, REST } from '../bridges.ts';
import { Leads } from './front-state.ts';

test("while kubernethes is away visitors are led as before; later nowhere, and no app's domain becomes the website's", () => {
  let now = 1_000;
  const leads = new Leads(() => now);
  expect(leads.heard(undefined)).toBeUndefined();
  const at = (app: string) => ({
    upstream: { app, host: '10.90.0.64', port: 80, protocol: 'http1' as const },
  });
  const led = { website: at('greeting'), sites: [{ domain: 'shop.example', ...at('shop') }] };
  expect(leads.heard(led)).toBe(led);
  now += LED_FOR - 1;
  expect(leads.heard(undefined)).toBe(led);
  now += 1;
  const reason = 'the node is still starting';
  expect(leads.heard(undefined)).toEqual({
    website: { reason },
    sites: [{ domain: 'shop.example', reason }],
  });
  // Its silence does not make it longer, and its next word counts at once.
  now += 1;
  expect(leads.heard(undefined)).toEqual({
    website: { reason },
    sites: [{ domain: 'shop.example', reason }],
  });
  expect(leads.heard(led)).toBe(led);
});

test('no address has another owner before the front has forgotten whose it was', () => {
  // One look that waits for its answer as long as it may, the pause before it, and some seconds for telling the front.
  expect(LED_FOR + 10_000 + 1_000).toBeLessThan(REST - 5_000);
});
