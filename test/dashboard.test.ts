/**
 * The operator's page in a real browser: on a real relay, beside a guest and a contract on a real chain; and on the relay's admin server with
 * states that no chain of a test gets into.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Anvil, startAnvil } from '../contracts/local-node.ts';
import { Dashboard } from '../host/dashboard/dashboard.ts';
import { LogTail } from '../host/dashboard/log-tail.ts';
import { FakeNetwork, word } from '../host/dashboard/source.fixture.ts';
import { STREAM_LIMITS } from '../host/dashboard/streams.ts';
import { type Relay, runRelay } from '../host/relay/main.ts';
import { adminServer } from '../host/relay/server.ts';
import { Metrics } from '../lib/daemon/metrics.ts';
import type { AppStatus, AppsStatus } from '../lib/protocol/app-status.ts';
import { to0x } from '../lib/protocol/encoding.ts';
import type { Hex } from '../lib/protocol/hex.ts';
import { appId } from '../lib/protocol/manifest.ts';
import { encodeRegister, encodeRollout } from '../lib/protocol/network-contract.ts';
import { addressOf, newPrivateKey } from '../lib/protocol/secp256k1.ts';
import {
  Browser,
  type Look,
  type Looks,
  overflow,
  PHONE,
  seriousFindings,
  WIDE,
  weight,
} from './support/browser.ts';
import { hasChromium } from './support/chromium.ts';
import { bootstrappedNetwork, Chain, TestGuest, type TestNetwork } from './support/guest.ts';

const HOSTILE = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
const ENOUGH = '0x8ac7230489e80000';

/** What a person must be able to say of a page, at both widths, in light and dark. */
async function expectSound({ page, problems }: Look): Promise<void> {
  expect(await seriousFindings(page)).toEqual([]);
  expect(await overflow(page)).toBe(0);
  expect(await page.title()).toBe('Dstack relay');
  expect(await weight(page)).toBeLessThan(200_000);
  expect(problems).toEqual([]);
}

describe.skipIf(!hasChromium)('the dashboard in Chromium', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'dashboard-test-'));
  let anvil: Anvil;
  let chain: Chain;
  let network: TestNetwork;
  let guest: TestGuest;
  let relay: Relay;
  let browser: Browser;
  let gas: string;
  let key: string;

  beforeAll(async () => {
    [anvil, browser] = await Promise.all([
      startAnvil({ args: ['--block-time', '1', '--slots-in-an-epoch', '1'] }),
      Browser.start(),
    ]);
    chain = new Chain(anvil.url);
    network = await bootstrappedNetwork(chain, 50);
    guest = await TestGuest.start(network, 'joined');
    guest.apps = { apps: [], more: 0, rollouts: [] };
    const bytes = newPrivateKey();
    key = to0x(bytes);
    gas = addressOf(bytes);
    const gasKeyFile = join(scratch, 'gas.key');
    writeFileSync(gasKeyFile, key, { mode: 0o600 });
    await chain.rpc('anvil_setBalance', gas, ENOUGH);
    relay = await runRelay(
      {
        rpcUrl: anvil.url,
        chainId: network.domain.chainId,
        contract: network.address,
        gasKeyFile,
        nodeUrl: guest.url,
        siteUrl: 'https://127.0.0.1:1',
        gossipListen: { host: '127.0.0.1', port: 0 },
        gossipPeers: [`http://127.0.0.1:1/${HOSTILE}`],
        adminListen: { host: '127.0.0.1', port: 0 },
        stateDir: join(scratch, 'state'),
        confirmations: 0,
        pollMs: 100,
        maxFeeGwei: 100,
        feeBumpSeconds: 45,
        lowBalanceEth: 0.01,
        logLevel: 'info',
      },
      { write: () => {} },
    );
  });
  afterAll(async () => {
    await browser?.close();
    await relay?.close();
    await guest?.stop();
    await anvil?.stop();
    rmSync(scratch, { recursive: true, force: true });
  });

  async function open(looks?: Looks): Promise<Look> {
    const look = await browser.look(`${relay.adminUrl}/dashboard/`, looks);
    await look.page.waitForSelector('#live[data-state="live"]');
    return look;
  }

  const manifest = (digit: string) => `0x${digit.repeat(64)}`;
  const rollout = (app: string, hash: string) =>
    network.asOwner(encodeRollout({ app: to0x(appId(app)), manifestHash: hash }));
  const failing = (message: string, log: string): AppStatus => ({
    app: 'greeting',
    state: 'down',
    inForce: '2'.repeat(64) as Hex,
    trouble: {
      code: 'MANIFEST_MALFORMED',
      message,
      manifest: '2'.repeat(64) as Hex,
      attempts: 3,
      nextTry: 5,
      logs: { web: [log] },
    },
  });

  test('an onboarding, a rollout, a failed rollout and a low balance are each seen without a reload', async () => {
    const { page, problems, close } = await open();
    await page.evaluate('window.stayed = true');
    const shows = (selector: string, text: string) =>
      page.locator(selector, { hasText: text }).first().waitFor();

    const request = await network.requestArgs();
    await network.asStranger(encodeRegister(request.args));
    await shows('#onboardings tr', request.node.toLowerCase());
    await shows('#onboardings tr', 'asked');

    await rollout('greeting', manifest('1'));
    await shows('#rollouts tr', manifest('1'));
    await shows('#apps tr', 'greeting');

    await rollout('greeting', manifest('2'));
    const apps: AppsStatus = {
      apps: [failing('the manifest is no JSON', 'last words')],
      more: 0,
      rollouts: [
        {
          app: 'greeting',
          manifest: '2'.repeat(64) as Hex,
          at: 1_800_000_000,
          outcome: 'refused',
          code: 'MANIFEST_MALFORMED',
        },
      ],
    };
    guest.apps = apps;
    await shows('#rollouts tr', 'refused');
    await shows('#apps .trouble', 'the manifest is no JSON');

    await chain.rpc('anvil_setBalance', gas, '0x1');
    await shows('#alerts', 'the gas key runs low');
    await shows('#card-gas', 'low');
    await chain.rpc('anvil_setBalance', gas, ENOUGH);
    await page.locator('#alerts .alert').first().waitFor({ state: 'detached' });

    expect(await page.evaluate('window.stayed')).toBe(true);
    expect(problems).toEqual([]);
    await close();
  });

  test('hostile names of peers, lines of the log and texts about a manifest are shown as text', async () => {
    guest.apps = {
      apps: [failing(HOSTILE, HOSTILE)],
      more: 0,
      rollouts: [],
    };
    const look = await open();
    const { page, close } = look;
    await page.locator('#apps .trouble p', { hasText: HOSTILE }).first().waitFor();
    await page.locator('#apps .trouble pre', { hasText: HOSTILE }).waitFor();
    await page.locator('#peers td', { hasText: '<img' }).waitFor();
    guest.apps = new Error(HOSTILE);
    await page.locator('#log-lines', { hasText: HOSTILE }).waitFor();
    expect(await page.locator('main img, main script').count()).toBe(0);
    await expectSound(look);
    await close();
  });

  test('the log shows no secret, whatever is logged', async () => {
    const state = await (await fetch(`${relay.adminUrl}/dashboard/state`)).text();
    expect(state).toContain('the relay is running');
    expect(state.toLowerCase()).not.toContain(key.slice(2));
  });
});

/** A relay with more of everything than most have. @param rows of a list at most */
function busy(network: FakeNetwork, tail: LogTail, rows: number): void {
  const some = <T>(count: number, make: (nth: number) => T) => ({
    list: Array.from({ length: Math.min(count, rows) }, (_, nth) => make(nth)),
    more: 0,
  });
  const address = (nth: number) => `0x${nth.toString(16).padStart(40, '0')}`;
  network.set({
    pulse: { head: 123_456, time: 1_800_000_000, block: 123_455, unhealthy: null },
    network: { networkKey: address(1), epoch: 1, delay: 86_400, requestWindow: 50, platformsOpen: false },
    own: {
      state: 'joined',
      flavour: 'sim',
      epoch: 1,
      config: word(2),
      networkKey: address(1),
      code: null,
      message: null,
      waitingFor: '',
    },
    warnings: ['the gas key runs low: send it some ether'],
    nodes: some(100, (nth) => ({
      node: address(nth),
      request: word(nth),
      measurement: word(5),
      platform: word(6),
      block: nth,
      standing: nth % 7 === 0 ? 'platform revoked' : 'allowed',
      own: nth === 3,
    })),
    peers: some(20, (nth) => ({ peer: `https://relay-${nth}.example:7610`, reachable: nth % 3 > 0 })),
    onboardings: some(30, (nth) => ({
      request: word(nth),
      node: address(nth),
      state: 'asked',
      askedBlock: nth,
      answeredBlock: null,
      until: nth + 50,
      own: false,
      note: 'its turn: other nodes can answer too',
    })),
    apps: some(20, (nth) => ({
      app: nth === 0 ? HOSTILE : `app-${nth}`,
      manifest: word(nth),
      next: { manifest: word(nth + 1), from: 1_800_000_500 },
      node: { state: 'serving', serving: word(nth), trouble: null },
    })),
    rollouts: some(50, (nth) => ({
      app: `app-${nth}`,
      manifest: word(nth),
      what: 'refused',
      by: 'node',
      block: null,
      at: 1_799_990_000 + nth,
      code: 'MANIFEST_MALFORMED',
    })),
    certificate: { serial: '0a0b', names: ['site.example', HOSTILE], notAfter: 1_900_000_000 },
    gas: {
      address: address(9),
      wei: '1234567890123456',
      lowWei: '10000000000000000',
      low: true,
      spent: [{ kind: 'register', transactions: 3, gas: 150_000, wei: '4500000000000' }],
      transactions: { list: [], more: 0 },
    },
    allowed: some(60, (nth) => ({
      kind: 'measurement',
      value: word(nth),
      state: 'pending',
      from: 1_800_000_100 + nth,
      block: nth,
    })),
    pending: some(20, (nth) => ({ what: 'measurement', value: word(nth), from: 1_800_000_100 + nth })),
    history: { from: 0, complete: true, behind: 0, cutAt: null, problem: null },
  });
  say(tail, 10 * rows);
}

function say(tail: LogTail, lines: number): void {
  for (let nth = 0; nth < lines; nth += 1)
    tail.write(
      JSON.stringify({
        level: nth % 10 === 0 ? 40 : 30,
        time: 1_800_000_000_000 + nth,
        msg: `line ${tail.last + 1} of the log`,
        request: word(nth),
      }),
    );
}

describe.skipIf(!hasChromium)('a dashboard with much on it', () => {
  const network = new FakeNetwork();
  const tail = new LogTail((text) => text);
  const dashboard = new Dashboard({ networks: [network], tail });
  const app = adminServer({
    services: [],
    metrics: new Metrics(),
    log: { warn: () => {} },
    hostName: '127.0.0.1',
    dashboard,
  });
  let browser: Browser;
  let url: string;

  beforeAll(async () => {
    // What axe looks at grows with the rows, what it finds does not.
    busy(network, tail, 5);
    url = `${await app.listen({ host: '127.0.0.1', port: 0 })}/dashboard/`;
    browser = await Browser.start();
  });
  afterAll(async () => {
    await browser?.close();
    dashboard.close();
    await app.close();
  });

  async function open(looks?: Looks): Promise<Look> {
    const look = await browser.look(url, looks);
    await look.page.waitForSelector('#live[data-state="live"]');
    return look;
  }

  test.each([
    ['1280 px', 'light', { size: WIDE }],
    ['1280 px', 'dark', { size: WIDE }],
    ['390 px', 'light', { size: PHONE }],
    ['390 px', 'dark', { size: PHONE }],
  ] as const)(
    'at %s, %s: nothing that axe calls serious, nothing in the console, no scrolling sideways',
    async (_size, scheme, looks) => {
      const look = await open({ ...looks, scheme });
      const back = await look.page.evaluate('getComputedStyle(document.body).backgroundColor');
      expect(back).toBe(scheme === 'dark' ? 'rgb(18, 22, 21)' : 'rgb(245, 246, 244)');
      await look.page.locator('#apps td', { hasText: HOSTILE }).waitFor();
      await expectSound(look);
      await look.close();
    },
  );

  test('100 nodes and 10,000 lines: all nodes are there, the last lines are, and it still does what it is told', async () => {
    busy(network, tail, 100);
    const look = await open();
    const { page, close } = look;
    await expect.poll(() => page.locator('#nodes tbody tr').count()).toBe(100);
    for (let round = 0; round < 10; round += 1) {
      say(tail, 1_000);
      await page.locator('#log-lines', { hasText: `line ${tail.last} of` }).waitFor();
    }
    await expect.poll(() => page.locator('#log-count').textContent()).toBe('500 of 10,000 lines');
    expect(await page.locator('#log-lines > div').count()).toBe(500);
    await page.locator('#log-filter').fill(`LINE ${tail.last - 5} `);
    await expect.poll(() => page.locator('#log-count').textContent()).toBe('1 of 10,000 lines');
    expect(await overflow(page)).toBe(0);
    expect(look.problems).toEqual([]);
    await close();
  });

  test('by keyboard alone: to the content, to a section, through the log', async () => {
    const look = await open();
    const { page, close } = look;
    const focused = () => page.evaluate('document.activeElement.id || document.activeElement.textContent');
    const tabTo = async (wanted: string) => {
      for (let presses = 0; presses < 60; presses += 1) {
        await page.keyboard.press('Tab');
        if ((await focused()) === wanted) return;
      }
      throw new Error(`Tab does not reach ${wanted}`);
    };
    await page.keyboard.press('Tab');
    expect(await focused()).toBe('Skip to the content');
    expect(
      await page
        .locator('.skip')
        .evaluate((link: { getBoundingClientRect(): { left: number } }) => link.getBoundingClientRect().left),
    ).toBeGreaterThanOrEqual(0);
    await page.keyboard.press('Enter');
    expect(new URL(page.url()).hash).toBe('#main');
    await tabTo('log-level');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowDown');
    await expect.poll(() => page.locator('#log-lines [data-level="info"]').count()).toBe(0);
    await tabTo('log-filter');
    await page.keyboard.type('no such line');
    await expect.poll(() => page.locator('#log-lines > div').count()).toBe(0);
    await tabTo('log-pause');
    await page.keyboard.press('Space');
    expect(await page.locator('#log-pause').getAttribute('aria-pressed')).toBe('true');
    await tabTo('log-lines');
    // A table that scrolls is reached too, and says what it is.
    await page.locator('#nodes .scroll').focus();
    expect(await page.locator('#nodes .scroll').getAttribute('aria-label')).toBe('Nodes');
    expect(look.problems).toEqual([]);
    await close();
  });

  test('a row that is new is marked, but moves nothing for those who asked for less motion', async () => {
    for (const motion of ['no-preference', 'reduce'] as const) {
      const { page, close } = await open({ motion });
      const [first] = network.now.nodes!.list;
      network.set({
        nodes: {
          list: [{ ...first!, request: word(9_000 + tail.last) }, ...network.now.nodes!.list],
          more: 0,
        },
      });
      tail.write('another');
      const fresh = page.locator('#nodes tr.fresh').first();
      await fresh.waitFor();
      const name = await page.evaluate(
        "getComputedStyle(document.querySelector('#nodes tr.fresh')).animationName",
      );
      expect([motion, name]).toEqual([motion, motion === 'reduce' ? 'none' : 'arrive']);
      await close();
    }
  });

  test('when the relay goes, the page says so, and comes back with it', async () => {
    const { page, close } = await open();
    dashboard.close();
    await page.waitForSelector('#live:not([data-state="live"])');
    await page.waitForSelector('#live[data-state="live"]');
    await close();
  });

  test('a relay that hangs is not called live: the page says since when, and comes back by itself', async () => {
    const own = new Dashboard({ networks: [network], tail, limits: { ...STREAM_LIMITS, heartbeat: 200 } });
    const [services, metrics, log] = [[], new Metrics(), { warn: () => {} }] as const;
    const server = adminServer({
      services: [...services],
      metrics,
      log,
      hostName: '127.0.0.1',
      dashboard: own,
    });
    const tunnel = await Tunnel.to(new URL(await server.listen({ host: '127.0.0.1', port: 0 })));
    const { page, close } = await browser.look(`${tunnel.url}/dashboard/`);
    try {
      await page.waitForSelector('#live[data-state="live"]');
      tunnel.hold();
      await page.waitForSelector('#live[data-state="away"]');
      expect(await page.textContent('#live')).toMatch(
        /^silent since \d\d:\d\d:\d\d UTC: what is shown is of then$/,
      );
      tunnel.letGo();
      await page.waitForSelector('#live[data-state="live"]');
    } finally {
      await close();
      tunnel.close();
      own.close();
      await server.close();
    }
  });
});

/** Connections to a server, which can be held: they stay open, and nothing comes through. */
class Tunnel {
  readonly #server: Server;
  readonly #open = new Set<Socket>();
  #isHeld = false;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async to(target: URL): Promise<Tunnel> {
    const server = createServer();
    const tunnel = new Tunnel(server);
    server.on('connection', (near) => {
      const far = connect(Number(target.port), target.hostname);
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        tunnel.#open.add(one);
        one.on('data', (bytes) => other.write(bytes));
        one.on('error', () => other.destroy());
        one.on('close', () => {
          tunnel.#open.delete(one);
          other.destroy();
        });
        if (tunnel.#isHeld) one.pause();
      }
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return tunnel;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  hold(): void {
    this.#isHeld = true;
    for (const socket of this.#open) socket.pause();
  }

  letGo(): void {
    this.#isHeld = false;
    for (const socket of this.#open) socket.resume();
  }

  close(): void {
    for (const socket of this.#open) socket.destroy();
    this.#server.close();
  }
}
