/** docs/records.md: what its user types, in that order, with nodes in terminals of their own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { freePort } from '../../test/support/free-port.ts';
import { type Block, blocksOf, type Shell, shell } from '../../test/support/page.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 240_000 });

const blocks = blocksOf('docs/records.md');
const folder = mkdtempSync(join(tmpdir(), 'dstack-records-page-'));
const nodes: ChildProcess[] = [];
const ports = new Map<string, number>();
let here: Shell;
beforeAll(async () => {
  here = shell(folder);
  for (const port of ['9908', '9980', '9909', '9981']) ports.set(port, await freePort());
});
afterAll(async () => {
  for (const node of nodes) {
    if (node.exitCode === null && node.signalCode === null) {
      node.kill('SIGKILL');
      await once(node, 'close');
    }
  }
  rmSync(folder, { recursive: true, force: true });
});

/** The page's ports may be somebody's here. */
function placed(block: Block): Block {
  return { ...block, script: block.script.replace(/\b99\d\d\b/g, (port) => `${ports.get(port) ?? port}`) };
}

async function startNode({ script }: Block): Promise<void> {
  const node = spawn('bash', ['-c', `exec ${script}`], {
    cwd: folder,
    env: { PATH: `${join(folder, '.bin')}:${process.env.PATH}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  nodes.push(node);
  let said = '';
  for (const stream of [node.stdout!, node.stderr!]) {
    stream.on('data', (part: Buffer) => {
      said += part.toString();
    });
  }
  await vi.waitFor(() => expect(said).toContain('the node runs'), 240_000);
}

test('the page has commands, and nodes for them', () => {
  expect(blocks.filter(({ needs }) => needs === 'node')).toHaveLength(2);
  expect(blocks.length).toBeGreaterThan(6);
});

test.each(blocks.map((block): [string, Block] => [block.script.split('\n')[0]!, block]))(
  '%s',
  async (_, block) => {
    if (block.needs === 'node') await startNode(placed(block));
    else await here.run(placed(block), { HOME: folder });
  },
);
