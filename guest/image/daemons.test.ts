import { expect, it } from 'vitest';
import { daemons } from '../daemons.ts';
import { bundleDaemons } from './daemons.ts';

it('a bundle names its packages by their place in node_modules, wherever that lies', async () => {
  const bundle = Buffer.from(
    (await bundleDaemons(daemons.filter(({ name }) => name === 'agent'))).get('agent.mjs')!,
  ).toString('utf8');
  const paths = [...bundle.matchAll(/__commonJS\(\{"([^"]+)"/g)].map(([, path]) => path!);
  expect(paths.length).toBeGreaterThan(10);
  // The others are provided by the build's own plugins.
  expect(paths.filter((path) => !/^(node_modules\/|builtins:|left-out:)/.test(path))).toEqual([]);
});
