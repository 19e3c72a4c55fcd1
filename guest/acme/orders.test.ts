import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseRoots } from '../../lib/site/certificate-rule.ts';
import { type KeyPair, newKey, spkiOf, TestAuthority } from '../../test/support/authority.ts';
import { Holder } from './holder.ts';
import { Memory, namesHash } from './memory.ts';
import { Orders, type OrdersOptions } from './orders.ts';
import { AcmeProblem } from './transport.ts';

const DAY = 24 * 3600;
const START = 1_800_000_000;
const names = ['site.example'];
const ACCOUNT = { url: 'https://acme.example/account/1', issuers: [] };
const root = new TestAuthority('Root');
const ours = newKey();
let folder: string;
let now: number;
let made: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-orders-'));
  now = START;
  made = 0;
});
afterEach(() => rmSync(folder, { recursive: true }));

const file = () => JSON.parse(readFileSync(join(folder, 'site.json'), 'utf8'));
let serial = 0;
const issue = (over: { key?: KeyPair; names?: string[]; from?: number; to?: number } = {}) =>
  root.issue({ key: ours, names, from: now, to: now + 90 * DAY, serial: ++serial, ...over });

/** A daemon as `main.ts` puts it together, with an authority of the test. */
function daemon(order: OrdersOptions['order'], over: Partial<OrdersOptions> = {}) {
  const memory = new Memory([folder], () => {});
  const holder: Holder = new Holder({
    publicKey: spkiOf(ours),
    names,
    roots: parseRoots(root.pem),
    taken: (certificate) => orders.taken(certificate),
  });
  const orders: Orders = new Orders({
    names,
    memory,
    holder,
    now: async () => now,
    firstWithin: 0,
    directory: 'https://acme.example/dir',
    account: async () => ACCOUNT,
    ready: async () => {},
    order: async (before) => {
      made++;
      return order(before);
    },
    look: async () => [],
    proposed: async () => undefined,
    log: { info: () => {}, warn: () => {} },
    ...over,
  });
  return { orders, holder, memory };
}

test.each<[what: string, code: string, chain: () => string]>([
  ['for another key', 'CERT_KEY', () => issue({ key: newKey() })],
  ['for other names', 'CERT_NAME', () => issue({ names: ['other.example'] })],
  ['that has expired', 'CERT_EXPIRED', () => issue({ from: now - 10, to: now - 1 })],
  [
    'of an authority that is not trusted',
    'CERT_CHAIN',
    () => new TestAuthority('Root').issue({ key: ours, names }),
  ],
  ['that is garbage', 'CERT_MALFORMED', () => 'garbage'],
  ['of 60 KB', 'CERT_MALFORMED', () => issue().padEnd(60_000, '\n')],
])(
  'an authority that issues one %s: %s, the one in use stays, and the order counts',
  async (_, code, chain) => {
    const { orders, holder } = daemon(async (before) => {
      await before(ACCOUNT);
      return chain();
    });
    const good = issue({ to: now + 90 });
    holder.take(good, now);
    now += 80;
    await orders.step();
    expect(orders.status).toMatchObject({ state: 'failed', code });
    expect(holder.present(now)?.chain).toBe(good);
    expect(file().failures).toMatchObject({ orders: 1, tries: 0 });
    expect(made).toBe(1);
    now += 599;
    await orders.step();
    expect(made).toBe(1);
  },
);

test('an order is written down before the authority is asked, and an end of the process forgets neither it nor the pause', async () => {
  const written: number[] = [];
  const { orders } = daemon(async (before) => {
    written.push(file().orders.length);
    await before(ACCOUNT);
    written.push(file().orders.length);
    throw new DstackError('ACME_INVALID', 'no');
  });
  await orders.step();
  expect(written).toEqual([0, 1]);
  const after = daemon(async () => issue());
  await after.orders.step();
  expect(made).toBe(1);
  expect(after.orders.status.nextOrder).toBeGreaterThanOrEqual(START + 600);
});

test('where it cannot be written down, there is no order', async () => {
  const { orders } = daemon(
    async (before) => {
      await before(ACCOUNT);
      throw new Error('it was ordered all the same');
    },
    { memory: new Memory([join(folder, 'missing')], () => {}) },
  );
  await expect(orders.step()).rejects.toMatchObject({ code: 'ACME_MEMORY' });
});

test('what another node has got is taken instead, also when it comes while the account is being opened', async () => {
  const theirs = issue();
  const looking = daemon(async () => issue(), { look: async () => ['garbage', theirs] });
  await looking.orders.step();
  expect(made).toBe(0);
  expect(looking.holder.present(now)?.chain).toBe(theirs);
  expect(looking.orders.status.state).toBe('current');
  expect(file().orders).toHaveLength(1);

  rmSync(join(folder, 'site.json'));
  const late: ReturnType<typeof daemon> = daemon(async (before) => {
    late.holder.take(theirs, now);
    await before(ACCOUNT);
    throw new Error('it was ordered all the same');
  });
  await late.orders.step();
  expect(late.orders.status).toMatchObject({ state: 'current' });
  expect(file().failures).toBeUndefined();
  expect(file().orders).toHaveLength(1);
});

test('one that comes during an order, and is newer than what the order brings, stays', async () => {
  const newer = issue({ from: now + 60 });
  const { orders, holder } = daemon(async (before) => {
    await before(ACCOUNT);
    holder.take(newer, now);
    return issue();
  });
  await orders.step();
  expect(holder.present(now)?.chain).toBe(newer);
  expect(orders.status.state).toBe('current');
});

test('certificates of others count among the five of a week', async () => {
  const { orders, holder } = daemon(async () => issue());
  for (let i = 0; i < 5; i++) {
    holder.take(issue({ to: now + 60 }), now);
    now += 60;
  }
  now += 1;
  await orders.step();
  expect(made).toBe(0);
  expect(orders.status.state).toBe('held');
  expect(orders.status.nextOrder).toBe(START + 7 * DAY);
});

test('a proposal of a time that has passed counts from when it was heard of, each time that it is another', async () => {
  let proposed = { start: 0, end: 1 };
  const { orders, holder } = daemon(async () => issue(), { proposed: async () => proposed });
  holder.take(issue(), now);
  await orders.step();
  const first = orders.status.nextOrder!;
  expect(first).toBeGreaterThan(now);
  expect(first).toBeLessThanOrEqual(now + 600);
  now += 3;
  await orders.step();
  expect(orders.status.nextOrder).toBe(first);
  proposed = { start: 0, end: 2 };
  await orders.step();
  expect(orders.status.nextOrder).toBe(first + 3);
  now = first + 3;
  await orders.step();
  expect(made).toBe(1);
});

test('a Retry-After is kept, and one of a year is two days', async () => {
  const refusing = (seconds: number) =>
    daemon(async () => {
      throw new AcmeProblem(429, 'rateLimited', 'later', seconds);
    });
  const { orders } = refusing(7200);
  await orders.step();
  expect(orders.status.nextOrder).toBe(START + 7200);
  now += 7200;
  const year = refusing(365 * DAY).orders;
  await year.step();
  expect(year.status.nextOrder).toBe(now + 2 * DAY);
});

test('a clock that was far ahead holds nothing back once it is right', async () => {
  const { memory } = daemon(async () => issue());
  const year = now + 365 * DAY;
  const set = namesHash(names);
  memory.save({
    ...memory.value,
    orders: Array.from({ length: 5 }, () => ({ names: set, at: year })),
    failures: { names: set, orders: 4, tries: 1, at: year, until: year + DAY },
  });
  const { orders } = daemon(async () => issue());
  await orders.step();
  expect(orders.status.nextOrder).toBe(START + 7 * DAY);
  now += 7 * DAY;
  await orders.step();
  expect(made).toBe(1);
});

test('an account that the authority has no more is found again before the next try', async () => {
  let url = 'https://acme.example/account/1';
  const { orders } = daemon(async () => issue(), {
    account: async () => ({ url, issuers: [] }),
    ready: async (account) => {
      if (account.url.endsWith('1')) throw new DstackError('ACME_RECORD_MISSING', 'of that account');
    },
  });
  await orders.step();
  expect(orders.status.code).toBe('ACME_RECORD_MISSING');
  url = 'https://acme.example/account/2';
  now += 3600;
  await orders.step();
  expect(orders.account?.url).toBe(url);
  expect(made).toBe(1);
});

test('an account that is found to be another one right before an order is looked up in the DNS first: a try, and no order', async () => {
  const other = { url: 'https://acme.example/account/2', issuers: [] };
  const looked: string[] = [];
  const { orders } = daemon(
    async (before) => {
      await before(other);
      return issue();
    },
    {
      ready: async ({ url }) => {
        looked.push(url);
        if (url === other.url && looked.length < 3)
          throw new DstackError('ACME_RECORD_MISSING', 'of that one');
      },
    },
  );
  await orders.step();
  expect(looked).toEqual([ACCOUNT.url, other.url]);
  expect(orders.status).toMatchObject({ state: 'failed', code: 'ACME_RECORD_MISSING' });
  expect(orders.account?.url).toBe(other.url);
  expect(file()).toMatchObject({ orders: [], failures: { orders: 0, tries: 1 } });
  expect(orders.status.nextOrder! - now).toBeLessThan(60);
});

test('one of a few seconds that was newer leaves the one before in use, once its time is up', async () => {
  const { orders, holder } = daemon(async () => issue());
  const long = issue({ from: now - 60 });
  holder.take(long, now);
  holder.take(issue({ to: now + 2 }), now);
  holder.take(issue({ from: now + 1, to: now + 3 }), now);
  expect(holder.present(now)?.notAfter).toBe(now + 3);
  now += 4;
  expect(holder.present(now)?.chain).toBe(long);
  await orders.step();
  expect(made).toBe(0);
  expect(() => holder.take(issue({ from: now - 120 }), now)).toThrowError(
    expect.objectContaining({ code: 'CERT_OLDER' }),
  );
  now += 90 * DAY;
  expect(holder.present(now)).toBeUndefined();
});
