/** Takes the pictures in docs/images: the dashboard of a relay whose network has just let a node in, and the greeting app's page. */
import { mkdirSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { print } from '../../lib/daemon/terminal.ts';
import { Browser, PHONE, WIDE } from '../../test/support/browser.ts';
import { startGreeting } from '../../test/support/greeting.ts';
import { startScene } from './scene.ts';

const root = join(import.meta.dirname, '../..');
const FOLDER = join(root, 'docs/images');
const SIZES = [
  ['1280', { ...WIDE, height: 1_100 }],
  ['390', { ...PHONE, height: 1_100 }],
] as const;

mkdirSync(FOLDER, { recursive: true });
const browser = await Browser.start();
try {
  const scene = await startScene();
  try {
    await take('dashboard', scene.dashboard, '#apps .tag[data-tone="good"]');
  } finally {
    await scene.stop();
  }
  const greeting = await startGreeting('1');
  try {
    await take('greeting', greeting.url, '#verdict[data-state="holds"]');
  } finally {
    await greeting.stop();
  }
} finally {
  await browser.close();
}

/** @param ready what the page has once there is something to see */
async function take(name: string, url: string, ready: string): Promise<void> {
  for (const [width, size] of SIZES) {
    const { page, problems, close } = await browser.look(url, { size });
    await page.waitForSelector(ready);
    const path = join(FOLDER, `${name}-${width}.png`);
    await page.screenshot({ path });
    await close();
    if (problems.length > 0) throw new Error(`${url}: ${problems.join('; ')}`);
    print(`wrote ${relative(root, path)}, ${Math.ceil(statSync(path).size / 1000)} kB`);
  }
}
