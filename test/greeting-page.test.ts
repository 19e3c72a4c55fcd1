/** The greeting app's page in a real browser, served by the programs of its image. */
import { readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { toHex } from '../lib/protocol/encoding.ts';
import type { SiteEvidence } from '../lib/protocol/site-evidence.ts';
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
import { forgeSite } from './support/forge-site.ts';
import { type Greeting, PLATFORM_ID, SCENE, SECRET, STATUS, startGreeting } from './support/greeting.ts';

const HOSTILE = `<img src=x onerror="document.title='owned'"></pre><script>document.title='owned'</script>`;

let greeting: Greeting;
beforeAll(async () => {
  greeting = await startGreeting();
});
beforeEach(() => {
  greeting.alter = (evidence) => evidence;
  greeting.status = STATUS;
  greeting.say('{"app":"greeting","epoch":1}');
});
afterAll(async () => {
  await greeting?.stop();
});

describe('the page as it is served', () => {
  const page = async (): Promise<string> => (await fetch(greeting.url)).text();

  test('says what other programs look for in it', async () => {
    const html = await page();
    expect(html).toContain('Welcome to Dstack with unstoppable TLS!');
    expect(html).toContain('<h1>Hello from version 7</h1>');
    expect(html).toMatch(/id="fingerprint">[0-9a-f]{32}</);
    expect(html).toContain('id="note">The greeting app was here first<');
    expect(html).toContain('{"app":"greeting","epoch":1}');
    const { headers } = await fetch(greeting.url);
    expect(headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(html).not.toMatch(/<style|\sstyle=|\son\w+=/);
  });

  const visit = async () => Number(/id="visits">(\d+)</.exec(await page())![1]);
  /** What is on the disk. */
  const counted = () => readdirSync(join(greeting.data, 'count'));

  test('counts visits; what is on the disk is where it goes on', async () => {
    const before = await visit();
    expect(await visit()).toBe(before + 1);
    expect(counted()).toEqual([String(before + 1)]);
    renameSync(join(greeting.data, 'count', String(before + 1)), join(greeting.data, 'count/41'));
    expect(await visit()).toBe(42);
    for (const spoiled of ['$(reboot)', '-1', '<b>', '007', '9'.repeat(16)])
      writeFileSync(join(greeting.data, 'count', spoiled), '');
    expect(await visit()).toBe(43);
    rmSync(join(greeting.data, 'count'), { recursive: true });
    expect(await visit()).toBe(1);
    expect(readdirSync(greeting.data).toSorted()).toEqual(['count', 'note.txt']);
  });

  test('200 visitors at once are 200 visits, each told another number, whoever of them is ended by SIGKILL', async () => {
    const before = await visit();
    greeting.endNext(5, 5);
    const told = await Promise.allSettled(Array.from({ length: 210 }, visit));
    const numbers = told.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    expect(numbers).toHaveLength(200);
    expect(new Set(numbers).size).toBe(200);
    // Of the ten who were ended, those counted who had come to it.
    expect(counted()).toEqual([String(before + 205)]);
    expect(await visit()).toBe(before + 206);
  }, 300_000);
});

describe.skipIf(!hasChromium)('the greeting page in Chromium', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await Browser.start();
  });
  afterAll(async () => {
    await browser?.close();
  });

  async function open(state: string, looks?: Looks): Promise<Look> {
    const look = await browser.look(greeting.url, looks);
    await look.page.waitForSelector(`#verdict[data-state="${state}"]`);
    return look;
  }

  test.each([
    ['1280 px, light', { size: WIDE, scheme: 'light' }],
    ['390 px, dark', { size: PHONE, scheme: 'dark' }],
  ] as const)('at %s: the evidence is checked, nothing is wrong with the page', async (_, looks) => {
    const look = await open('holds', looks);
    const { page, problems, close } = look;
    expect(await page.locator('#steps li').allTextContents()).toHaveLength(5);
    expect(await page.locator('#steps [data-holds="false"]').count()).toBe(0);
    expect(await page.textContent('#about-platform')).toBe(toHex(PLATFORM_ID));
    expect(await page.textContent('#about-contract')).toBe(SCENE.domain.contract);
    expect(await page.textContent('#verify')).toBe(
      `npx dstack site verify ${new URL(greeting.url).origin} --network ${SCENE.domain.contract} --chain-id 31337 --rpc URL`,
    );
    expect(await page.textContent('main')).toContain('A page cannot vouch for itself');
    expect(await seriousFindings(page)).toEqual([]);
    expect(await overflow(page)).toBe(0);
    expect(await weight(page)).toBeLessThan(200_000);
    expect(problems).toEqual([]);
    await close();
  });

  test('evidence that was altered, or is of another visit, is said to be wrong', async () => {
    const seen: SiteEvidence[] = [];
    greeting.alter = (evidence) => {
      seen.push(evidence);
      return evidence;
    };
    const { page, problems, close } = await open('holds');
    const lies: [string, (evidence: SiteEvidence) => unknown][] = [
      ['signature', (evidence) => ({ ...evidence, platform: '00'.repeat(32) })],
      [
        'quote',
        (evidence) => ({
          ...evidence,
          quote: `${evidence.quote.slice(0, 200)}ff${evidence.quote.slice(202)}`,
        }),
      ],
      ['nonce', () => seen[0]],
    ];
    for (const [wrong, lie] of lies) {
      greeting.alter = lie;
      await page.click('#again');
      await page.locator('#steps [data-holds="false"]', { hasText: wrong }).waitFor();
      expect(await page.textContent('#verdict')).toContain('This evidence is wrong.');
    }
    greeting.alter = (evidence) => evidence;
    await page.click('#again');
    await page.waitForSelector('#verdict[data-state="holds"]');
    expect(problems).toEqual([]);
    await close();
  });

  test('whether its host could have a certificate is said in plain words, with what to do', async () => {
    greeting.status = {
      state: 'brought',
      hostImpersonable: false,
      caa: { code: 'CAA_RESOLVERS', reason: HOSTILE },
    };
    const { page, problems, close } = await open('holds');
    expect(await page.getAttribute('#host', 'data-state')).toBe('possible');
    expect(await page.textContent('#host')).toMatch(/^Yes, as far as the node knows/);
    expect(await page.textContent('#host-advice')).toContain('network.json names no resolvers');
    expect(await page.textContent('#dns')).toBe(
      `npx dstack site dns 127.0.0.1 --network ${SCENE.domain.contract} --chain-id 31337 --rpc URL`,
    );
    // The status is nobody's word: only the signed evidence says that it is forbidden.
    greeting.alter = (evidence) => ({ ...evidence, hostImpersonable: false });
    await page.click('#again');
    await page.waitForSelector('#verdict[data-state="wrong"]');
    expect(await page.getAttribute('#host', 'data-state')).toBe('unsaid');
    greeting.alter = (evidence) =>
      forgeSite(SCENE, SECRET, Buffer.from(evidence.nonce, 'hex'), { said: { hostImpersonable: false } });
    await page.click('#again');
    await page.waitForSelector('#verdict[data-state="holds"]');
    expect(await page.getAttribute('#host', 'data-state')).toBe('forbidden');
    expect(problems).toEqual([]);
    await close();
  });

  test('what the node says is shown as text, and evidence of another form is none', async () => {
    greeting.say(HOSTILE);
    greeting.alter = (evidence) => ({
      ...evidence,
      networkKey: HOSTILE,
      contract: HOSTILE,
      chainId: '1; rm -rf /',
    });
    const { page, problems, close } = await open('wrong');
    expect(await page.textContent('#info')).toContain(HOSTILE);
    expect(await page.textContent('#about-networkKey')).toBe(HOSTILE);
    // Nobody copies into a shell what the node wrote.
    expect(await page.textContent('#verify')).toContain('--network CONTRACT --chain-id ID');
    expect(await page.locator('main img, main script').count()).toBe(0);
    expect(await page.title()).toBe('Greeting 7');
    for (const [odd, said] of [
      [[1], 'what came is no evidence'],
      [null, 'what came is no evidence'],
    ] as const) {
      greeting.alter = () => odd;
      await page.click('#again');
      await page.locator('#verdict[data-state="none"]', { hasText: said }).waitFor();
    }
    expect(problems).toEqual([]);
    await close();
  });

  test('by keyboard alone: asked again, and the command is reached', async () => {
    const { page, close } = await open('holds');
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement.id')).toBe('again');
    let asked = 0;
    greeting.alter = (evidence) => {
      asked += 1;
      return evidence;
    };
    await page.keyboard.press('Enter');
    await expect.poll(() => asked).toBe(1);
    await page.waitForSelector('#verdict[data-state="holds"]');
    for (const command of ['npx dstack site dns', 'npx dstack site verify']) {
      await page.keyboard.press('Tab');
      await expect.poll(() => page.evaluate('document.activeElement.textContent')).toContain(command);
    }
    await close();
  });
});
