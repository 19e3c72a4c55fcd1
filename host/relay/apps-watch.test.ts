import { expect, test } from 'vitest';
import { Metrics } from '../../lib/daemon/metrics.ts';
import { type AppStatus, type AppsStatus, appsStatusLimits } from '../../lib/protocol/app-status.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { AppsWatch } from './apps-watch.ts';

const a = parseHex('a'.repeat(64));
const trouble = {
  code: 'APP_UNHEALTHY',
  message: '\u001b[2J',
  manifest: a,
  attempts: 3,
  nextTry: 8,
  logs: {},
};
const statusOf = (...apps: AppStatus[]): AppsStatus => ({ now: 1_000, apps, more: 0, rollouts: [] });

function watch() {
  const metrics = new Metrics();
  const logged: string[] = [];
  const record = (_: object, message: string) => void logged.push(message);
  let answer: () => Promise<AppsStatus> = async () => statusOf();
  const watched = new AppsWatch({
    node: { apps: () => answer() },
    metrics: metrics.of({ contract: '0xc0' }),
    log: { info: record, warn: record },
  });
  return {
    logged,
    watched,
    async seen(next: () => Promise<AppsStatus>): Promise<string[]> {
      answer = next;
      await watched.look();
      watched.measure();
      return metrics
        .text()
        .split('\n')
        .filter((line) => line.startsWith('dstack_relay_app_'));
    },
  };
}

test('a rollout that fails is in the metrics, by the name of the app and a code, until it is over', async () => {
  const { seen } = watch();
  const series = (serving: number, age: number, ...attempts: string[]) => [
    `dstack_relay_app_serving{contract="0xc0",app="web"} ${serving}`,
    `dstack_relay_app_superseded_seconds{contract="0xc0",app="web"} ${age}`,
    ...attempts.map((of) => `dstack_relay_app_trouble{contract="0xc0",app="web",${of}`),
  ];
  const behind: AppStatus = { app: 'web', state: 'behind', supersededSince: 400, trouble };
  expect(await seen(async () => statusOf({ app: 'web', state: 'serving' }))).toEqual(series(1, 0));
  expect(await seen(async () => statusOf(behind))).toEqual(series(0, 600, 'code="APP_UNHEALTHY"} 3'));
  const other = { ...behind, trouble: { ...trouble, code: 'MANIFEST_MISSING', attempts: 1 } };
  expect(await seen(async () => statusOf(other))).toEqual(
    series(0, 600, 'code="APP_UNHEALTHY"} 0', 'code="MANIFEST_MISSING"} 1'),
  );
  expect(await seen(async () => statusOf())).toEqual(
    series(0, 0, 'code="APP_UNHEALTHY"} 0', 'code="MANIFEST_MISSING"} 0'),
  );
});

test('a node that cannot be asked: nothing is known, and that is said once', async () => {
  const { seen, watched, logged } = watch();
  await seen(async () => statusOf({ app: 'web', state: 'serving' }));
  expect(watched.status()?.apps).toHaveLength(1);
  const away = () => Promise.reject(new DstackError('NODE_REPLY', 'no such route'));
  for (let n = 0; n < 3; n++)
    expect(await seen(away)).toContain('dstack_relay_app_serving{contract="0xc0",app="web"} 0');
  expect(watched.status()).toBeUndefined();
  expect(logged).toEqual(['the node does not say how its apps stand: no such route']);
});

test('a node that names ever new apps and codes makes no endless number of series', async () => {
  const { seen } = watch();
  let lines: string[] = [];
  for (let round = 0; round < 20; round++) {
    const apps = Array.from({ length: appsStatusLimits.apps }, (_, n): AppStatus => {
      const code = `CODE_${round}_${n}`;
      return { app: `app-${round}-${n}`, state: 'down', trouble: { ...trouble, code } };
    });
    lines = await seen(async () => statusOf(...apps));
  }
  expect(lines.length).toBeLessThanOrEqual(3 * 101);
});
