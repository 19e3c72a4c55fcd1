/** The greeting app's page in a real browser, served by the programs of its image. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { toHex } from '../lib/protocol/encoding.ts';
import type { SiteEvidence } from '../lib/protocol/site-evidence.ts';
import { Browser, type Look, type Looks, overflow, PHONE, seriousFindings, WIDE } from './support/browser.ts';
import { hasChromium } from './support/chromium.ts';
import { type Greeting, PLATFORM_ID, SCENE, startGreeting } from './support/greeting.ts';

const HOSTILE = `<img src=x onerror="document.title='owned'"></pre><script>document.title='owned'</script>`;

let greeting: Greeting;
beforeAll(async () => {
  greeting = await startGreeting();
});
beforeEach(() => {
  greeting.alter = (evidence) => evidence;
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

  test('counts visits; what is on the disk is where it goes on, and a lock that was left is taken away', async () => {
    const visits = async () => Number(/id="visits">(\d+)</.exec(await page())![1]);
    const before = await visits();
    expect(await visits()).toBe(before + 1);
    await Promise.all(Array.from({ length: 8 }, page));
    // On a machine so busy that one of them waits for a second, that one may be counted with another.
    const after = await visits();
    expect(after).toBeLessThanOrEqual(before + 10);
    expect(after).toBeGreaterThan(before + 2);
    mkdirSync(join(greeting.data, 'visits.lock'));
    expect(await visits()).toBe(after + 1);
    expect(existsSync(join(greeting.data, 'visits.lock'))).toBe(false);
    writeFileSync(join(greeting.data, 'visits'), '41\n');
    expect(await visits()).toBe(42);
    expect(readFileSync(join(greeting.data, 'visits'), 'utf8')).toBe('42\n');
    for (const spoiled of ['', '$(reboot)\n', '-1\n', '<b>\n']) {
      writeFileSync(join(greeting.data, 'visits'), spoiled);
      expect(await visits()).toBe(1);
    }
  });
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
    await page.keyboard.press('Tab');
    await expect
      .poll(() => page.evaluate('document.activeElement.textContent'))
      .toContain('npx dstack site verify');
    await close();
  });
});
