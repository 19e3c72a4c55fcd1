/**
 * Debian's Chromium, driven by playwright-core: what people look at is looked at by tests in a real browser. Everything that a page
 * says to the console, throws, or asks of another origin is kept, and `problems` is empty at the end of every test.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium, type Page } from 'playwright-core';
import { CHROMIUM } from './chromium.ts';

export const WIDE = { width: 1280, height: 900 };
export const PHONE = { width: 390, height: 844 };

const AXE = join(import.meta.dirname, '../../node_modules/axe-core/axe.min.js');

export interface Look {
  readonly page: Page;
  /** Errors in the console, exceptions, answers that failed, requests to other origins. */
  readonly problems: string[];
  close(): Promise<void>;
}

export interface Looks {
  readonly size?: { readonly width: number; readonly height: number };
  readonly scheme?: 'light' | 'dark';
  readonly motion?: 'reduce' | 'no-preference';
}

export class Browser {
  readonly #folder: string;
  readonly #context: BrowserContext;

  private constructor(folder: string, context: BrowserContext) {
    this.#folder = folder;
    this.#context = context;
  }

  /** With a profile of its own, and nothing that it does by itself in the background. */
  static async start(): Promise<Browser> {
    const folder = mkdtempSync(join(tmpdir(), 'dstack-chromium-'));
    const context = await chromium.launchPersistentContext(folder, {
      executablePath: CHROMIUM,
      headless: true,
      chromiumSandbox: false,
      ignoreHTTPSErrors: true,
      timeout: 120_000,
      args: [
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
    context.setDefaultTimeout(60_000);
    return new Browser(folder, context);
  }

  /** Opens a page, as a person with this screen and these settings has it. */
  async look(
    url: string,
    { size = WIDE, scheme = 'light', motion = 'no-preference' }: Looks = {},
  ): Promise<Look> {
    const page = await this.#context.newPage();
    const problems: string[] = [];
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) problems.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => problems.push(`exception: ${error.message}`));
    page.on('request', (request) => {
      if (new URL(request.url()).origin !== new URL(url).origin) problems.push(`asks ${request.url()}`);
    });
    await page.setViewportSize(size);
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: motion });
    await page.goto(url);
    return { page, problems, close: () => page.close() };
  }

  async close(): Promise<void> {
    await this.#context.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** What axe finds that is serious or worse, each with its first place. A page's own policy does not hold for what the browser is told to run. */
export async function seriousFindings(page: Page): Promise<string[]> {
  await page.evaluate(readFileSync(AXE, 'utf8'));
  const found = await page.evaluate(async () => {
    const { axe } = globalThis as unknown as {
      axe: { run(): Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }> };
    };
    return (await axe.run()).violations;
  });
  return found
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`);
}

/** Pixels by which the page is wider than the screen: a phone would scroll sideways. */
export function overflow(page: Page): Promise<number> {
  return page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
}

/** Bytes of the page and of all files that it loaded, as they are without compression; what a stream goes on to say does not count. */
export function weight(page: Page): Promise<number> {
  return page.evaluate(() => {
    const { performance } = globalThis as unknown as {
      performance: { getEntriesByType(type: string): Loaded[] };
    };
    interface Loaded {
      readonly decodedBodySize: number;
    }
    const loaded = ['navigation', 'resource'].flatMap((type) => performance.getEntriesByType(type));
    return loaded.reduce((sum, { decodedBodySize }) => sum + decodedBodySize, 0);
  });
}

/** Milliseconds from the request of the page to the first text or picture that a person sees of it. */
export async function firstPaint(page: Page): Promise<number> {
  const seen = () =>
    page.evaluate(() => {
      const { performance } = globalThis as unknown as {
        performance: { getEntriesByName(name: string): { startTime: number }[] };
      };
      return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null;
    });
  for (let tries = 0; tries < 300; tries += 1) {
    const at = await seen();
    if (at !== null) return at;
    await page.waitForTimeout(100);
  }
  throw new Error('nothing of the page was painted in half a minute');
}
