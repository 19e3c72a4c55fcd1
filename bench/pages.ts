/**
 * `npm run bench -- pages [--looks N]`: what a person waits for, and is sent, until there is something to see of each page, in Chromium. The last line is JSON.
 */
import { parseArgs } from 'node:util';
import { print, printJson } from '../lib/daemon/terminal.ts';
import { startScene } from '../scripts/screenshots/scene.ts';
import { Browser, firstPaint, PHONE, WIDE, weight } from '../test/support/browser.ts';
import { startGreeting } from '../test/support/greeting.ts';

interface Seen {
  readonly page: string;
  readonly size: string;
  /** Milliseconds until the first text or picture. */
  readonly median: number;
  readonly most: number;
  /** Bytes of page and files, without compression. */
  readonly bytes: number;
}

export async function benchPages(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({ args: [...args], options: { looks: { type: 'string', default: '9' } } });
  const looks = Number(values.looks);
  print('| page | size | first paint, ms: median | most | kB |', '|---|---|---|---|---|');
  const seen: Seen[] = [];
  const scene = await startScene();
  try {
    seen.push(...(await lookAt('dashboard', scene.dashboard, looks)));
  } finally {
    await scene.stop();
  }
  const greeting = await startGreeting('1');
  try {
    seen.push(...(await lookAt('greeting', greeting.url, looks)));
  } finally {
    await greeting.stop();
  }
  printJson({ bench: 'pages', looks, seen });
}

async function lookAt(name: string, url: string, looks: number): Promise<readonly Seen[]> {
  const seen: Seen[] = [];
  for (const [width, size] of [
    ['1280', WIDE],
    ['390', PHONE],
  ] as const) {
    const browser = await Browser.start();
    try {
      const paints: number[] = [];
      let bytes = 0;
      // The first look is at a browser that has only just begun, and is left out.
      for (let nth = 0; nth <= looks; nth += 1) {
        const { page, close } = await browser.look(url, { size });
        const paint = await firstPaint(page);
        if (nth > 0) paints.push(Math.round(paint));
        bytes = await weight(page);
        await close();
      }
      const sorted = paints.toSorted((a, b) => a - b);
      const one = { page: name, size: width, median: sorted[looks >> 1]!, most: sorted.at(-1)!, bytes };
      print(`| ${name} | ${width} px | ${one.median} | ${one.most} | ${(bytes / 1000).toFixed(0)} |`);
      seen.push(one);
    } finally {
      await browser.close();
    }
  }
  return seen;
}
